from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from pipeline.sources import list_input
from pipeline.storage.atomic import overwrite
from pipeline.storage.fingerprint import END, UNREADABLE, fingerprint, fingerprints, is_still
from pipeline.storage.location import locate
from tests.stores import S3, STORES, new_folder


def tag_of(path: Path) -> str:
    location = locate(str(path))
    return fingerprint(location, location.info())


@pytest.mark.parametrize("size", [0, 1, END - 1, END, END + 1, 2 * END, 2 * END + 1, 5 * END])
def test_a_tag_stays_with_a_copy_and_tells_both_ends_and_the_size(
    size: int, tmp_path: Path
) -> None:
    body = bytearray(os.urandom(size))
    (tmp_path / "a").write_bytes(body)
    tags = [tag_of(tmp_path / "a")]
    shutil.copyfile(tmp_path / "a", tmp_path / "b")
    os.utime(tmp_path / "b", ns=(1, 1))
    assert tag_of(tmp_path / "b") == tags[0]
    (tmp_path / "b").write_bytes(body + b"x")
    tags.append(tag_of(tmp_path / "b"))
    for place in {0, min(END, size) - 1, max(0, size - END), size - 1} if size else ():
        other = body.copy()
        other[place] ^= 1
        (tmp_path / "b").write_bytes(other)
        tags.append(tag_of(tmp_path / "b"))
    assert len(set(tags)) == len(tags)


def test_files_of_the_same_ends_but_other_sizes_differ(tmp_path: Path) -> None:
    head, tail = os.urandom(END), os.urandom(END)
    (tmp_path / "a").write_bytes(head + tail)
    (tmp_path / "b").write_bytes(head + b"between" + tail)
    assert tag_of(tmp_path / "a") != tag_of(tmp_path / "b")


def test_tags_are_in_the_order_of_the_files(tmp_path: Path) -> None:
    for number in range(200):
        (tmp_path / f"{number:03d}.jpg").write_bytes(b"%d" % number)
    (tmp_path / "nowhere.jpg").symlink_to(tmp_path / "absent")
    listing = list_input(str(tmp_path))
    tags = [*fingerprints(listing.root, listing.files)]
    assert tags == [fingerprint(listing.root / file.path, file) for file in listing.files]
    assert (len(set(tags)), tags[-1]) == (201, "unreadable")


def test_on_s3_the_tag_is_the_etag_and_costs_nothing(s3: S3) -> None:
    place = locate(s3.url)
    place.fs.pipe({f"{place.path}/{name}": b"x" for name in ("a.jpg", "b.jpg")})
    listing = list_input(str(place))
    before = len(s3.requests())
    tags = [*fingerprints(listing.root, listing.files)]
    assert tags == [fingerprint(place / file.path, file) for file in listing.files]
    assert tags == ["9dd4e461268c8034f5c8564e155c67a6"] * 2  # the MD5 of "x"
    assert len(s3.requests()) == before


@pytest.mark.parametrize("store", STORES)
def test_a_file_still_is_what_it_was_until_it_is_written_again(
    store: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    request.param = store
    folder = new_folder(request, tmp_path / "in")
    overwrite(folder / "a.csv", b"t\n1\n")
    (file,) = folder.tree()
    (tag,) = fingerprints(folder, [file])
    where = folder / file.path
    assert is_still(where, file.size, tag)
    overwrite(where, b"t\n2\n")
    assert not is_still(where, file.size, tag)


def test_what_is_appended_to_a_file_leaves_its_planned_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("t\n1\n")
    where, size, tag = locate(str(path)), path.stat().st_size, tag_of(path)
    path.write_text("t\n1\n2\n")
    assert is_still(where, size, tag)
    path.unlink()
    assert not is_still(where, size, tag)
    assert is_still(where, size, UNREADABLE)  # reading it says what is wrong
