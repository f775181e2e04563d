from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from pipeline.images import ImageLimits, load_image
from pipeline.sources import image_folder
from pipeline.sources.units import Cut
from pipeline.storage.location import Location, locate
from tests.pipeline.sample_images import jpeg
from tests.pipeline.sources.places import Place, passed_through, rows_of

PATHS = ["a.PNG", "b.jpg", "empty.jpg", "sub/c.webp"]


@pytest.fixture
def images(place: Place) -> Place:
    for name in ("b.jpg", "a.PNG", "sub/c.webp", "_skip/d.jpg", ".e.jpg"):
        place.write(name, jpeg())
    place.write("notes.txt", b"not an image")
    place.write("empty.jpg", b"")  # an image that fails, not one that is left out
    return place


def test_a_folder_of_images_is_a_table_of_paths(images: Place) -> None:
    source = images.source(unit_rows=2)
    cuts = images.cuts(source)
    assert [cut.files for cut in cuts] == [("a.PNG", "b.jpg"), ("empty.jpg", "sub/c.webp")]
    rows = rows_of(source, cuts, ["image"])
    assert [row["image"] for row in rows] == PATHS
    assert passed_through(source, cuts).to_pydict() == {"path": PATHS}
    assert load_image(rows[3]["image"], source.root, ImageLimits(10**6, 10**6)).size == (32, 24)


def test_images_that_are_kept_are_copied(images: Place) -> None:
    source = images.source(keep_images=True)
    cuts = images.cuts(source)
    gone = [cut.__class__(files=(*cut.files, "gone.jpg"), start=0, stop=5) for cut in cuts]
    assert passed_through(source, gone).to_pydict() == {
        "path": [*PATHS, "gone.jpg"],
        "image": [jpeg(), jpeg(), b"", jpeg(), None],
    }


def refused(code: str) -> FileNotFoundError:
    error = FileNotFoundError(errno.ENOENT, "The specified bucket does not exist")
    error.__cause__ = ClientError({"Error": {"Code": code}}, "GetObject")
    return error


FAULTS = [
    PermissionError(errno.EACCES, "Permission denied"),
    OSError(errno.EIO, "Input/output error"),
    TimeoutError("no answer after all tries"),
    refused("NoSuchBucket"),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_an_image_that_cannot_be_read_fails_the_commit(
    tmp_path: Path, fault: OSError, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(f"s3://{tmp_path.name}") if fault is FAULTS[-1] else Place(str(tmp_path))
    source = image_folder.ImageFolder(locate(place.uri), unit_rows=10, keep_images=True)

    def read(_: Location) -> bytes:
        raise fault

    monkeypatch.setattr(Location, "read", read)
    with pytest.raises(OSError) as raised:  # noqa: PT011
        passed_through(source, [Cut(files=("a.jpg",), start=0, stop=1)])
    assert raised.value is fault


def test_a_folder_that_is_gone_is_not_a_folder_of_nulls(tmp_path: Path) -> None:
    place = Place(str(tmp_path / "in"))
    place.write("a.jpg", jpeg())
    source = place.source(keep_images=True)
    cuts = place.cuts(source)
    shutil.rmtree(tmp_path / "in")
    with pytest.raises(FileNotFoundError):
        passed_through(source, cuts)


def test_as_many_images_are_held_as_their_sizes_allow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_folder, "READ_BYTES", 100)
    place = Place(str(tmp_path))
    for number, size in enumerate([10] * 20 + [60] * 4 + [200] * 2):
        place.write(f"{number:02}.jpg", b"x" * size)
    source = place.source(keep_images=True, unit_rows=100)
    (cut,) = place.cuts(source)
    assert [len(table) for table in source.passthrough(cut)] == [4, 10, 10, 1, 1]
    assert len(passed_through(source, [cut])) == 26


def test_a_folder_of_videos_is_one_too(place: Place) -> None:
    for name in ("b.mp4", "sub/a.WEBM", "c.mkv", "notes.txt"):
        place.write(name, b"video" if name != "c.mkv" else b"")
    source = place.source(unit_rows=2)
    cuts = place.cuts(source)
    paths = ["b.mp4", "c.mkv", "sub/a.WEBM"]
    assert [row["video"] for row in rows_of(source, cuts, ["video"])] == paths
    assert passed_through(source, cuts).to_pydict() == {"path": paths}
    kept = place.source(unit_rows=2, keep_images=True)
    assert passed_through(kept, cuts)["video"].to_pylist() == [b"video", b"", b"video"]
    place.write("thumbnail.jpg", jpeg())  # images come first
    assert "image" in place.source().schema.names
