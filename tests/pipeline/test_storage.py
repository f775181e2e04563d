from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.storage import create_exclusively, locate, write_whole


@pytest.mark.parametrize("uri", ["s3://bucket/x", "nothing://x", "https://example.org/x.parquet"])
def test_what_cannot_be_reached_is_said_in_one_line(uri: str) -> None:
    with pytest.raises(UserError, match=uri):
        locate(uri)


def test_a_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert locate("a/b").path == str(tmp_path / "a/b")
    assert locate(f"file://{tmp_path}/a").path == str(tmp_path / "a")


def test_containment_knows_folders_from_names(tmp_path: Path) -> None:
    data = locate(str(tmp_path / "data"))
    assert data.contains(locate(str(tmp_path / "data/out")))
    assert data.contains(data)
    assert not data.contains(locate(str(tmp_path / "data-out")))
    assert not data.contains(locate(str(tmp_path)))


def test_an_exclusive_create_leaves_the_first(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).write_text(name)
    final = str(tmp_path / "final")
    assert create_exclusively(str(tmp_path / "first"), final)
    assert not create_exclusively(str(tmp_path / "second"), final)
    assert [path.name for path in tmp_path.iterdir()] == ["final"]
    assert Path(final).read_text() == "first"


def test_a_rewrite_replaces_and_leaves_no_draft(tmp_path: Path) -> None:
    for body in (b"old", b"new"):
        write_whole(str(tmp_path / "x"), body)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"new"]
