"""A fault of OUTPUT that lasts names OUTPUT and what to do; any other passes as it is."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from pipeline.storage import write_fault
from pipeline.storage.location import locate
from pipeline.storage.write_fault import OutputError, naming_output, writing_to


def denied() -> ClientError:
    answer = {"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
    return ClientError(answer, "PutObject")


@pytest.mark.parametrize(
    ("error", "fix"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "free some space"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "raise the quota or free some space"),
        (OSError(errno.EROFS, "Read-only file system"), "mount it for writing"),
        (PermissionError(errno.EACCES, "Permission denied"), "get the permission to write there"),
        (PermissionError("Access Denied"), "make it writable"),
        (denied(), "make it writable"),
    ],
    ids=repr,
)
def test_a_fault_that_lasts_names_output_and_the_fix(
    tmp_path: Path, error: Exception, fix: str
) -> None:
    with pytest.raises(OutputError) as caught, writing_to(locate(str(tmp_path))):
        raise error
    first, second = str(caught.value).splitlines()
    assert first.startswith(f"OUTPUT {tmp_path} cannot be written to: {type(error).__name__}: ")
    assert second == f"What is finished is kept; {fix} and run the same command again."
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [TimeoutError(), ValueError("x"), RuntimeError("x")], ids=repr)
def test_what_passes_by_itself_or_is_no_stores_stays(tmp_path: Path, error: Exception) -> None:
    for block in (writing_to, naming_output):
        with pytest.raises(type(error)) as caught, block(locate(str(tmp_path))):
            raise error
        assert caught.value is error


def test_an_error_of_reading_is_not_outputs(tmp_path: Path) -> None:
    output = locate(str(tmp_path / "out"))
    gone = FileNotFoundError(errno.ENOENT, "no such file", "in/a.parquet")
    with pytest.raises(FileNotFoundError) as caught, naming_output(output):
        raise gone
    assert caught.value is gone
    assert not [*tmp_path.rglob("*.tmp")]


def test_that_output_cannot_be_written_is_found_by_trying(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overwrite(*_: object, **__: object) -> None:
        raise denied()

    monkeypatch.setattr(write_fault, "overwrite", overwrite)
    with (
        pytest.raises(OutputError, match=re.escape(str(tmp_path))),
        naming_output(locate(str(tmp_path))),
    ):
        raise PermissionError("Access Denied")


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """The limit on the size of files fails in the middle of a write, as a full disk does."""
    child = os.fork()
    if not child:
        os._exit(_write_too_much(tmp_path))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert [*tmp_path.iterdir()] == []


def _write_too_much(folder: Path) -> int:
    import resource
    import signal

    from pipeline.storage.atomic import overwrite

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    try:
        with writing_to(locate(str(folder))):
            overwrite(locate(str(folder)) / "x", b"x" * 2000)
    except OutputError:
        return 0
    return 1
