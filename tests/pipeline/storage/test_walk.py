"""Files come in the order of their paths, on every kind of store, however many pages they fill."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.storage import file_table, walk
from pipeline.storage.file_table import FileTable, tabulate
from pipeline.storage.location import FileInfo, Location, locate
from pipeline.storage.walk import files_below
from tests.stores import STORES, new_folder

NAMES = ["a.txt", "a/b", "a/b.txt", "a-b", "ab/c", "é/z", "z", "\U0001f600", "\uffee", "a!/x", "B"]


@pytest.fixture(params=STORES)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """A folder with files in subfolders, some of them hidden, on each kind of store."""
    where = new_folder(request, tmp_path / "in")
    for name in (*NAMES, "_hidden", ".hidden/x", "a/_hidden/x"):
        if where.is_local:
            (where / name).fs.makedirs((where / name).parent.path, exist_ok=True)
        where.fs.pipe_file((where / name).path, name.encode())
    return where


@pytest.mark.parametrize("names", [2, 1000])
def test_files_come_in_the_order_of_their_paths(
    folder: Location, names: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walk, "NAMES", names)
    found = [*files_below(folder)]
    assert [file.path for file in found] == sorted(NAMES)
    for file in found[:2]:
        alone = (folder / file.path).info()
        assert (file.size, file.stamp) == (alone.size, alone.stamp)


def test_a_bucket_of_several_pages(folder: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores give a thousand keys a page; here fewer are asked for."""
    if folder.is_local:
        return
    fs = folder.fs
    method = "call_s3" if "s3" in fs.protocol else "call"
    pages, whole = [], getattr(fs, method)

    def small(*asked: object, **named: object) -> object:
        limit = {"MaxKeys": 3} if method == "call_s3" else {"maxResults": 3}
        pages.append(asked)
        return whole(*asked, **named, **limit)

    monkeypatch.setattr(fs, method, small)
    assert [file.path for file in files_below(folder)] == sorted(NAMES)
    assert len(pages) == 5


def test_a_name_that_is_no_text_is_walked_over(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.jpg")).touch()
    names = [file.path for file in files_below(locate(str(tmp_path)))]
    assert names == ["a", "\udcff\udcfe.jpg"]


FILES = [FileInfo(f"{number:03}", number, f"stamp {number}") for number in range(100)]


@pytest.mark.parametrize("batch", [7, 10, 1000])
def test_a_table_of_files_is_a_sequence_of_them(
    batch: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(file_table, "BATCH", batch)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    table = tabulate(iter(FILES))
    assert [*tmp_path.iterdir()] == []  # a table on the disk leaves nothing behind
    assert [*table] == FILES
    assert len(table) == 100
    assert (table[0], table[42], table[-1]) == (FILES[0], FILES[42], FILES[-1])
    assert [*table[30:50]] == FILES[30:50]
    assert [*table[90:200][5:]] == FILES[95:]
    assert len(table[100:]) == 0
    with pytest.raises(IndexError):
        table[100]
    assert table.by_path() is table


def test_a_store_that_lists_in_another_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_table, "BATCH", 10)
    for files in (FILES[::-1], [*FILES[50:], *FILES[:50]]):
        assert [*tabulate(files).by_path()] == FILES


def test_no_files_are_a_table_too() -> None:
    empty: FileTable = tabulate([])
    assert [*empty] == []
    assert not empty
    assert empty.by_path() is empty
