"""The differences between two OUTPUTs as a page: counts, and changed rows side by side."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobs.report.diff.changes import Sample
from jobs.report.diff.words import Piece, differing_words
from jobs.report.page import render
from jobs.report.rows import Rows
from jobs.report.target import save, target_of
from jobs.report.thumbnails import Thumbnail, thumbnails
from pipeline.output.pictures import Pictures

if TYPE_CHECKING:
    from jobs.report.diff.compare import Difference
    from pipeline.storage.location import StorageOptions

IMAGE_SECONDS = 60.0
LONG = 120
"""Characters of a setting beyond which its words are compared."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A changed row.

    Attributes:
        sample: The two rows.
        answers: By column, both texts and their pieces; pieces are empty where nothing changed.
        image: The row's image; None where the job has none.
    """

    sample: Sample
    answers: tuple[tuple[str, str, str, list[Piece]], ...]
    image: Thumbnail | None


def write_page(found: Difference, to: str, *, storage_options: StorageOptions | None = None) -> str:
    """Write a page with the differences; returns where.

    Raises:
        UserError: The file cannot be written.
        OSError: OUTPUT cannot be read.
    """
    target = target_of(to, "to", (found.one.output, found.other.output), storage_options)
    samples = found.changes.kept()
    images = _images(found, samples, storage_options)
    rows = [_shown(sample, image) for sample, image in zip(samples, images, strict=True)]
    save(target, render("diff", **_content(found, rows)).encode())
    return str(target)


def _content(found: Difference, rows: list[Shown]) -> dict[str, Any]:
    changes = found.changes
    names = sorted({name for pair in changes.outcomes for name in pair})
    return {
        "one": found.one,
        "other": found.other,
        "task": found.one.record["task"],
        "on": found.on or "row_key",
        "settings": [(name, *_setting(*pair)) for name, pair in found.settings.items()],
        "runs": [(name, *(map(_value, pair))) for name, pair in found.runs.items()],
        "changes": changes,
        "outcome_names": names,
        "rows": rows,
    }


def _setting(one: object, other: object) -> tuple[str, str, list[Piece]]:
    """Both values, and where they are long the words that differ."""
    texts = _value(one), _value(other)
    is_long = max(map(len, texts)) > LONG
    return (*texts, differing_words(*texts) if is_long else [])


def _value(value: object) -> str:
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _shown(sample: Sample, image: Thumbnail | None) -> Shown:
    answers = tuple(
        (name, one, other, differing_words(one, other) if one != other else [])
        for name, (one, other) in sample.answers.items()
    )
    return Shown(sample=sample, answers=answers, image=image)


def _images(
    found: Difference, samples: list[Sample], options: StorageOptions | None
) -> list[Thumbnail | None]:
    pictures = Pictures(found.one.record, found.one.plan, options)
    if pictures.column is None:
        return [None] * len(samples)
    where = Rows(
        units=[sample.unit for sample in samples],
        positions=[sample.position for sample in samples],
    )
    return [*thumbnails(pictures, found.one.plan, where, seconds=IMAGE_SECONDS)]
