"""The data that the example files in `deploy/` are tried on, and what they should make of it."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from jobs.demo.dataset import held_out_scenes, write_dataset
from jobs.demo.phrases import POLICIES, caption, translation, violates

ROWS = 60
SEED = 11


def write(folder: Path, images: int = ROWS) -> Path:
    """Images and texts, where the example files look for them. Returns the folder."""
    write_dataset(folder / "images", images, seed=SEED)
    (folder / "texts").mkdir()
    texts = [caption(scene) for scene in islice(held_out_scenes(SEED), ROWS)]
    pq.write_table(pa.table({"text": texts}), folder / "texts" / "texts.parquet")
    return folder


def rows(folder: Path) -> list[dict[str, Any]]:
    return list(ds.dataset(folder).to_table().to_pylist())


def check_captions(folder: Path, images: int = ROWS) -> None:
    found = rows(folder / "captions")
    assert [row["name"] for row in found] == [f"drawing-{n:05}.jpg" for n in range(images)]
    assert sum(row["caption"] == row["truth"] for row in found) >= 0.98 * images
    record = json.loads((folder / "captions/_gemma3_batch/run.json").read_text())
    assert record["model_class"] == "gemma3_model.model.Gemma3ForConditionalGeneration"


def check_translations(folder: Path, images: int = ROWS) -> None:  # noqa: ARG001
    found = rows(folder / "translations")
    scenes = [*islice(held_out_scenes(SEED), ROWS)]
    for language in ("fr", "de", "es"):
        truths = [translation(scene, language) for scene in scenes]
        answers = [row[f"text_{language}"] for row in found]
        right = sum(answer == truth for answer, truth in zip(answers, truths, strict=True))
        assert right >= 0.98 * ROWS


def check_labels(folder: Path, images: int = ROWS) -> None:
    found = rows(folder / "labels")
    scenes = [*islice(held_out_scenes(SEED), images)]
    judged = [
        (policy.name in row["labels"], violates(scene, policy))
        for policy in POLICIES
        for row, scene in zip(found, scenes, strict=True)
    ]
    assert sum(label == truth for label, truth in judged) >= 0.97 * len(judged)


CHECKS = {"caption": check_captions, "translate": check_translations, "moderate": check_labels}
"""By the name of the job."""
