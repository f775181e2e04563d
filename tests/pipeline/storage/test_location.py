from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.contract.errors import UserError
from pipeline.storage.atomic import overwrite
from pipeline.storage.location import is_writable, locate


@pytest.mark.parametrize("uri", ["ftp://host/x", "nothing://x", "memory://x"])
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


def test_containment_knows_stores_apart(tmp_path: Path) -> None:
    bucket = locate("s3://bucket/data")
    assert bucket.contains(locate("s3://bucket/data/out"))
    assert not bucket.contains(locate("s3://bucket/data-out"))
    assert not bucket.contains(locate(str(tmp_path)))
    assert str(locate("s3://bucket/data/out")) == "s3://bucket/data/out"


def test_new_credentials_reach_a_store_in_the_same_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-yesterday")
    old = locate("s3://bucket/data")
    assert locate("s3://bucket/other").fs is old.fs
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-today")
    new = locate("s3://bucket/data")
    assert new.fs is not old.fs
    assert new == old
    assert locate("s3://bucket/other").fs is new.fs


def test_an_empty_step_in_a_key_stays_in_its_bucket() -> None:
    """`s3://bucket/images//cat.jpg` was taken for an object of a bucket called `cat.jpg`."""
    key = locate("s3://bucket/images") / "/cat.jpg"
    assert str(key) == "s3://bucket/images//cat.jpg"
    assert key.fs.split_path(key.path)[:2] == ("bucket", "images//cat.jpg")
    assert locate("s3://bucket") / "a" == locate("s3://bucket/a") / ""


def test_what_can_be_written_to(tmp_path: Path) -> None:
    assert is_writable(locate(str(tmp_path)))
    assert is_writable(locate("s3://bucket/x"))
    assert not is_writable(locate("https://example.org/x.parquet"))


def test_a_users_options_go_on_top_of_ours() -> None:
    options = {"s3": {"endpoint_url": "http://here", "config_kwargs": {"read_timeout": 3}}}
    fs = locate("s3a://bucket/x", options).fs
    assert fs.endpoint_url == "http://here"
    assert fs.config_kwargs["read_timeout"] == 3
    assert fs.config_kwargs["connect_timeout"] == 20
    assert not fs.dircache.use_listings_cache


@pytest.mark.parametrize("place", ["disk", "s3"])
def test_names_and_trees(place: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    root = str(tmp_path) if place == "disk" else request.getfixturevalue("s3").url
    folder = locate(root) / "folder"
    assert (folder.names(), folder.tree(), folder.exists()) == ([], [], False)
    for name in ("part-1", "part-2", "other", "_hidden/x/y"):
        overwrite(folder / name, b"12")
    assert sorted(folder.names("part-")) == ["part-1", "part-2"]
    assert sorted(folder.names()) == ["other", "part-1", "part-2"]
    assert [info.path for info in folder.tree()] == ["_hidden/x/y", "other", "part-1", "part-2"]
    assert folder.exists()
    assert folder.is_folder()
    assert not (folder / "other").is_folder()
    assert (folder / "other").info().size == 2
    assert (folder / "other").read() == b"12"
