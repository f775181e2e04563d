from __future__ import annotations

import pytest

from pipeline.images import ImageLimits, load_image
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
