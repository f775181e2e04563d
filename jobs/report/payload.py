"""Decides how the rows are data in the page: JSON in script elements that browsers do not execute.

The script reads them and sets them as text. Images are in elements of their own, of which each is
parsed when the first of its rows is shown, so that the page opens before they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from pipeline import Outcome

if TYPE_CHECKING:
    from jobs.report.columns import Columns
    from jobs.report.rows import Rows
    from jobs.report.thumbnails import Thumbnail

IMAGES_TOGETHER = 200
"""Rows whose images are in one element."""
ESCAPED = str.maketrans(
    {
        "<": "\\u003c",
        ">": "\\u003e",
        "&": "\\u0026",
        "\u2028": "\\u2028",
        "\u2029": "\\u2029",
    }
)
"""With these, no text can end the element that it is in, whatever it holds."""


@dataclass(frozen=True, kw_only=True)
class Counted:
    """The rows of one outcome.

    Attributes:
        name: The outcome.
        rows: In OUTPUT.
        shown: In the page.
    """

    name: str
    rows: int
    shown: int

    @property
    def weight(self) -> float:
        """How many rows of OUTPUT a row of the page stands for."""
        return self.rows / self.shown if self.shown else 0.0

    @property
    def is_good(self) -> bool:
        """Whether the rows have results."""
        return self.name in [*Outcome] and Outcome(self.name).has_results


def inline_json(value: Any) -> Markup:
    """A value as JSON that is safe inside a script element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # Lone surrogates are in no file; they come from JSON lines with `\\ud800`.
    text = text.encode("utf-8", "replace").decode()
    return Markup(text.translate(ESCAPED))  # noqa: S704  nothing in it can end the element


def rows_json(
    rows: Rows,
    columns: Columns,
    counted: Sequence[Counted],
    reasons: Sequence[int],
    images: Sequence[Thumbnail] | None,
) -> Markup:
    """What the script needs of the rows, without their images."""
    place = {each.name: number for number, each in enumerate(counted)}
    added = {name: rows.column(columns.added(name)) for name in ADDED_SHOWN}
    return inline_json(
        {
            "count": len(rows),
            "outcomes": [
                {"name": c.name, "rows": c.rows, "weight": c.weight, "good": c.is_good}
                for c in counted
            ],
            "columns": [asdict(column) for column in columns.all],
            "naming": columns.naming,
            "outcome": [place[name] for name in rows.column(columns.added("outcome"))],
            "reason": reasons,
            **added,
            "values": {column.name: rows.column(column.name) for column in columns.all},
            "cut": rows.cut,
            "images": None if images is None else _sizes(images),
            "together": IMAGES_TOGETHER,
        }
    )


ADDED_SHOWN = ("row_key", "error", "prompt_tokens", "output_tokens")


def _sizes(images: Sequence[Thumbnail]) -> list[Any]:
    """For each row the width and height of its image, or why there is none."""
    return [[image.width, image.height] if image.uri else image.fault for image in images]


def images_json(images: Sequence[Thumbnail]) -> Iterator[Markup]:
    """The images of `IMAGES_TOGETHER` rows after the other, as the content of an element each."""
    for start in range(0, len(images), IMAGES_TOGETHER):
        yield inline_json([image.uri for image in images[start : start + IMAGES_TOGETHER]])


def weights_of(counted: Sequence[Counted]) -> Mapping[str, float]:
    """By outcome, how many rows of OUTPUT a row of the page stands for."""
    return {each.name: each.weight for each in counted}
