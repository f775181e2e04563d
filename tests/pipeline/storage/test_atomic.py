"""Files are written whole, and once where it matters: on a disk, S3, Ceph RGW and GCS."""

from __future__ import annotations

import errno
import os
import re
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.contract.errors import UserError
from pipeline.storage import atomic
from pipeline.storage.atomic import (
    create,
    draft_for,
    overwrite,
    probe,
    remove,
    remove_drafts,
    remove_folder,
    replace_from,
)
from pipeline.storage.location import Location, locate
from tests.chaos.proxy import FaultyProxy
from tests.stores import S3, STORES, new_folder, through


@pytest.fixture(params=STORES)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """An empty OUTPUT on each kind of store."""
    return new_folder(request, tmp_path / "out")


def replace_file(where: Location, body: bytes, stamp: str) -> bool:
    with draft_for(where) as draft:
        Path(draft).write_bytes(body)
        return replace_from(draft, where, stamp)


def test_who_creates_second_is_told_and_changes_nothing(folder: Location) -> None:
    assert create(folder / "a", b"first")
    assert not create(folder / "a", b"second")
    assert (folder / "a").read() == b"first"


def test_of_many_at_once_one_creates(folder: Location) -> None:
    with ThreadPoolExecutor(16) as pool:
        won = [*pool.map(lambda i: create(folder / "a", b"%d" % i), range(16))]
    assert won.count(True) == 1
    assert (folder / "a").read() == b"%d" % won.index(True)


def test_old_drafts_of_processes_that_died_are_removed(
    folder: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    with draft_for(folder / "part") as draft:
        old = [Path(draft).with_name(f"gemma3-batch-{digit * 32}") for digit in "0af"]
        others = [Path(draft).with_name(name) for name in ("gemma3-batch-mine", "x" + old[0].name)]
        for path in (Path(draft), *old, *others):
            path.write_bytes(b"begun")
        for path in (*old, *others):
            os.utime(path, (1, 1))
        remove_drafts(folder, 3600.0)
        assert not any(path.exists() for path in old)
        assert all(path.exists() for path in (Path(draft), *others))
    remove_drafts(locate(str(tmp_path / "nothing")), 3600.0)


def test_a_file_too_large_for_one_put_is_refused_before_it_is_read(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic, "ONE_PUT", 5)
    where = locate(f"{s3.url}/out/a")
    with pytest.raises(ValueError, match="5 bytes, more than one PUT takes; name a new OUTPUT"):
        create(where, b"12345")


def test_a_file_that_changed_meanwhile_is_not_replace_file(folder: Location) -> None:
    create(folder / "a", b"old")
    stamp = (folder / "a").info().stamp
    assert replace_file(folder / "a", b"new", stamp)
    assert not replace_file(folder / "a", b"late", stamp)
    assert (folder / "a").read() == b"new"
    assert not replace_file(folder / "gone", b"late", stamp)
    assert not (folder / "gone").exists()


def test_of_many_at_once_one_replaces(folder: Location) -> None:
    create(folder / "a", b"old")
    stamp = (folder / "a").info().stamp
    with ThreadPoolExecutor(16) as pool:
        won = [*pool.map(lambda i: replace_file(folder / "a", b"%d" % i, stamp), range(16))]
    assert won.count(True) == 1


def test_nothing_is_left_lying_about(folder: Location) -> None:
    create(folder / "a", b"1")
    create(folder / "a", b"2")
    overwrite(folder / "b", b"3")
    overwrite(folder / "b", b"4")
    assert [info.path for info in folder.tree()] == ["a", "b"]
    assert (folder / "b").read() == b"4"
    remove(folder / "a")
    remove(folder / "a")
    remove_folder(folder)
    remove_folder(folder)
    assert folder.tree() == []


def test_a_folder_is_removed_while_others_write_to_it(tmp_path: Path) -> None:
    """As journals are by a driver that has committed what another one still computes."""
    folder = locate(str(tmp_path / "out/unit"))
    ended = threading.Event()

    def write() -> None:
        for _ in range(400):
            overwrite(folder / uuid.uuid4().hex, b"1", sync=False)

    def clear() -> None:
        while not ended.wait(0.01):
            remove_folder(folder)

    with ThreadPoolExecutor(5) as pool:
        removed = [pool.submit(clear) for _ in range(2)]
        written = [pool.submit(write) for _ in range(3)]
        for each in written:
            each.exception()
        ended.set()
    for each in (*written, *removed):
        each.result()
    remove_folder(folder)
    assert not folder.exists()


def test_a_folder_whose_name_is_a_pattern_is_removed_alone(s3: S3) -> None:
    """fsspec would remove `out1` as well, which the name matches."""
    root = locate(s3.url)
    for name in ("out[1]/a", "out[1]/b/c", "out1/a"):
        overwrite(root / name, b"x")
    remove_folder(root / "out[1]")
    assert [file.path for file in root.tree()] == ["out1/a"]


def test_a_disk_without_hard_links_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(UserError) as refusal:
        probe(locate(str(tmp_path / "out")))
    assert str(refusal.value).endswith(
        "its disk has no hard links; name a folder on another disk, or a bucket by its URI"
    )
    assert not (tmp_path / "out").exists()


def test_a_body_that_ends_early_is_never_there(
    folder: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(atomic, "create_from", stop)
    with pytest.raises(KeyboardInterrupt):
        create(folder / "a", b"1")
    assert folder.tree() == []


def test_a_store_that_supports_conditions_passes_the_probe(folder: Location) -> None:
    probe(folder)
    left = ["_gemma3_batch/replace.lock"] if folder.is_local else []
    assert [info.path for info in folder.tree()] == left


def test_the_probe_takes_six_requests(s3: S3) -> None:
    output = locate(f"{s3.url}/out")
    before = len(s3.requests())
    probe(output)
    made = [request.split()[0] for request in s3.requests()[before:]]
    assert made == ["PUT", "HEAD", "PUT", "PUT", "PUT", "DELETE"]


def unconditional(where: Location, body: bytes, _: object) -> None:
    where.fs.pipe_file(where.path, body)


def refusing(*_: object) -> None:
    raise FileExistsError


@pytest.mark.parametrize(
    ("condition", "fault"),
    [("IfNoneMatch", unconditional), ("IfMatch", unconditional), ("IfMatch", refusing)],
)
@pytest.mark.parametrize("store", ["s3", "gcs"])
def test_a_store_that_does_not_support_a_condition_is_refused(
    condition: str,
    fault: Callable[[Location, bytes, object], None],
    store: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = request.getfixturevalue(store)
    conditional_put = atomic._conditional_put

    def put(where: Location, body: bytes, asked: dict[str, str]) -> None:
        (fault if condition in asked else conditional_put)(where, body, asked)

    monkeypatch.setattr(atomic, "_conditional_put", put)
    with pytest.raises(UserError, match=r"does not support conditional writes.*--single-driver"):
        probe(locate(f"{server.url}/out", server.options))


@pytest.mark.parametrize("condition", ["IfNoneMatch", "IfMatch"])
def test_a_lost_reply_does_not_fail_the_probe(
    condition: str, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    conditional_put = atomic._conditional_put
    lost: list[str] = []

    def put(where: Location, body: bytes, asked: dict[str, str]) -> None:
        conditional_put(where, body, asked)
        if condition in asked and not lost:
            lost.append(condition)
            raise ConnectionResetError  # and the second try finds that its condition failed

    monkeypatch.setattr(atomic, "_conditional_put", put)
    probe(locate(f"{s3.url}/out"))
    assert lost


@pytest.mark.usefixtures("s3")
def test_a_store_that_is_not_there_is_said_in_one_line() -> None:
    with pytest.raises(UserError, match=r"^OUTPUT s3://no-such-bucket/out cannot be written to"):
        probe(locate("s3://no-such-bucket/out"))


def test_a_wrong_secret_is_said_in_one_line(rgw: S3) -> None:
    wrong = replace(rgw, secret="not-this-one")
    with pytest.raises(UserError) as error:
        probe(locate(f"{rgw.url}/out", wrong.options))
    due = r"OUTPUT s3://b-\w+/out cannot be written to: PermissionError: SignatureDoesNotMatch"
    due += "; the store does not accept the credentials; correct them"
    assert re.fullmatch(due, str(error.value))


def test_a_large_body_is_one_conditional_put(rgw: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    where = locate(f"{rgw.url}/out", rgw.options) / "large"
    calls: list[tuple[str, Mapping[str, Any]]] = []
    call_s3 = where.fs._call_s3

    async def noted(method: str, *arguments: Any, **fields: Any) -> Any:
        calls.append((method, fields))
        return await call_s3(method, *arguments, **fields)

    monkeypatch.setattr(where.fs, "_call_s3", noted)
    body = os.urandom(2**20) * 120
    assert create(where, body)
    assert not create(where, bytes(len(body)))
    assert [method for method, _ in calls] == ["put_object"] * 2
    assert [fields["IfNoneMatch"] for _, fields in calls] == ["*"] * 2
    assert where.read() == body
    assert "-" not in where.info().stamp  # the ETag of a multipart upload has its number of parts


@pytest.fixture
def proxy(s3: S3) -> Iterator[FaultyProxy]:
    proxy = FaultyProxy(s3.address)
    yield proxy
    proxy.close()


@pytest.mark.parametrize("mode", ["reset", "503", "stall"])
def test_a_store_that_fails_for_a_moment_is_tried_again(
    s3: S3, proxy: FaultyProxy, mode: str
) -> None:
    output = locate(f"{s3.url}/out", through(proxy))
    (output / "nothing").exists()  # the client is connected now
    started = threading.Event()

    def fail() -> None:
        with proxy.failing(mode):
            started.set()
            time.sleep(1.5)

    threading.Thread(target=fail).start()
    started.wait()
    name = uuid.uuid4().hex
    # A retry after a lost reply is told that the name is taken: then the content is ours.
    assert create(output / name, b"body") or (output / name).read() == b"body"
    assert (output / name).read() == b"body"
