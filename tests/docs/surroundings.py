"""What a reader has before a recipe, and what must be so after it, by the recipe's name."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from jobs.demo.dataset import held_out_scenes, jpeg, write_dataset
from jobs.demo.phrases import POLICIES, caption, violates
from tests.real_model import find as find_real_model

PHOTOS = 24
DRAWINGS = 60
OWN = 20
MOST_LINES = 25
LANGUAGES = ("en", "fr", "en", "xx")
Step = Callable[[Path], Any]


def rows(folder: Path) -> list[dict[str, Any]]:
    lines = [line for part in sorted(folder.glob("*.jsonl")) for line in part.open()]
    return [json.loads(line) for line in lines] or ds.dataset(folder).to_table().to_pylist()


def photos(folder: Path) -> None:
    """A folder of images."""
    (folder / "photos").mkdir()
    for number, scene in enumerate(islice(held_out_scenes(5), PHOTOS), 1):
        (folder / f"photos/photo-{number:02}.jpg").write_bytes(jpeg(scene))


def photos_of_which_one_is_broken(folder: Path) -> None:
    """One is cut off, and whole in the folder `backup`; one is empty; one file is no image."""
    photos(folder)
    (folder / "photos").rename(folder / "backup")
    photos(folder)
    file = folder / "photos/photo-05.jpg"
    file.write_bytes(file.read_bytes()[:300])
    (folder / "photos/empty.jpg").touch()
    (folder / "photos/notes.docx").write_bytes(b"x")


def drawings_with_labels(folder: Path) -> None:
    """Parquet with images, and a column that says which of them break a policy."""
    scenes = [*islice(held_out_scenes(7), DRAWINGS)]
    stars = next(policy for policy in POLICIES if policy.name == "stars")
    table = pa.table(
        {
            "name": [f"drawing-{number:02}.jpg" for number in range(DRAWINGS)],
            "image": [jpeg(scene) for scene in scenes],
            "has_star": [violates(scene, stars) for scene in scenes],
        }
    )
    (folder / "drawings").mkdir()
    pq.write_table(table, folder / "drawings/drawings.parquet")


def with_some_captions(folder: Path) -> None:
    """Drawings in three languages, of which each seventh has a caption."""
    table = pq.read_table(write_dataset(folder / "drawn", 40, seed=11))
    captions = ["as it was" if n % 7 == 0 else "" if n % 2 else None for n in range(40)]
    languages = [LANGUAGES[n % 4] for n in range(40)]
    table = table.append_column("caption", [captions]).append_column("language", [languages])
    pq.write_table(table, folder / "photos.parquet")


def captions_are_exact(folder: Path) -> None:
    truths = [caption(scene) for scene in islice(held_out_scenes(5), PHOTOS)]
    assert [row["caption"] for row in rows(folder / "captions")] == truths


def captions_are_made_where_there_were_none(folder: Path) -> None:
    found = rows(folder / "captioned")
    given = pq.read_table(folder / "photos.parquet").to_pylist()
    taken = [row for row in given if row["language"] != "xx"]
    assert [row["name"] for row in found] == [row["name"] for row in taken]
    kept = [row["outcome"] == "kept" for row in found]
    assert kept == [row["caption"] == "as it was" for row in taken]
    english = [row for row in found if row["language"] == "en" and row["outcome"] != "kept"]
    assert sum(row["caption"] == row["truth"] for row in english) >= 0.9 * len(english)
    french = [row for row in found if row["language"] == "fr" and row["outcome"] != "kept"]
    asked = {row["prompt_tokens"] for row in english}, {row["prompt_tokens"] for row in french}
    assert asked[0] != asked[1]
    for row in found:
        if row["outcome"] == "kept":
            assert (row["caption"], row["prompt_tokens"]) == ("as it was", None)


def words_are_counted(folder: Path) -> None:
    found = rows(folder / "counts")
    assert [row["words"] for row in found] == [len(row["truth"].split()) for row in found]
    module = (folder / "count_words.py").read_text()
    assert ast.parse(module)
    assert len([line for line in module.splitlines() if line.strip()]) <= MOST_LINES


BEFORE: dict[str, Step] = {
    "first-captions": photos,
    "first-translations": lambda _: find_real_model(),
    "captions": photos,
    "moderation": drawings_with_labels,
    "stop-and-continue": photos_of_which_one_is_broken,
    "python": photos,
    "missing-captions": with_some_captions,
    "own-job": lambda folder: write_dataset(folder / "images", OWN, seed=9),
}
AFTER: dict[str, Step] = {
    "first-captions": captions_are_exact,
    "captions": captions_are_exact,
    "missing-captions": captions_are_made_where_there_were_none,
    "own-job": words_are_counted,
}
