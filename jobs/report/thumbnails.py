"""Makes small pictures of the rows' images, within a bound of bytes and of time.

Each image gets an equal part of `BUDGET`, and the largest and finest form of `FORMS` that fits into
that. Units are visited in an order that spreads what was done when time is up over all of OUTPUT.
"""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from pipeline.contract.errors import RowError, one_line
from pipeline.contract.redaction import redact
from pipeline.storage.parallel import in_order

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image

    from jobs.report.rows import Rows
    from pipeline.output.pictures import Picture, Pictures
    from pipeline.output.plan import Plan

BUDGET = 32 * 2**20
"""Bytes of all pictures together, a quarter less than what they take in the page (base64)."""
FORMS = ((320, 72), (256, 62), (192, 55), (144, 50), (112, 42), (80, 35), (48, 30))
"""Most pixels each way, and WebP's quality."""
MOST = 48 * 1024
"""Bytes of one picture, however few there are."""
AHEAD = 32
"""Images that are fetched and decoded at once."""
LATE = "it was not read in the time that there is for images"
NOT_WANTED = "images were not asked for"


@dataclass(frozen=True, kw_only=True)
class Thumbnail:
    """A row's picture for the page.

    Attributes:
        uri: As `data:image/webp;base64,...`; empty if there is none.
        width: Pixels.
        height: Pixels.
        fault: Why there is none.
    """

    uri: str = ""
    width: int = 0
    height: int = 0
    fault: str = ""


def thumbnails(
    pictures: Pictures,
    plan: Plan,
    rows: Rows,
    *,
    seconds: float,
    say: Callable[[int], None] = lambda _: None,
) -> list[Thumbnail]:
    """Make a picture of each row's image.

    Args:
        pictures: Where they are found.
        plan: The plan of OUTPUT.
        rows: The rows.
        seconds: About the most time that it may take.
        say: Called with the number of rows that are done.

    Returns:
        One for each row.
    """
    made = [Thumbnail(fault=LATE)] * len(rows)
    share = min(MOST, BUDGET // max(1, len(rows)))
    place = {key: row for row, key in enumerate(zip(rows.units, rows.positions, strict=True))}
    until = time.monotonic() + seconds
    found = _found(pictures, plan, rows, until)
    make = partial(_thumbnail, pictures, share)
    for done, (picture, thumbnail) in enumerate(in_order(make, found, AHEAD), 1):
        made[place[picture.unit, picture.position]] = thumbnail
        say(done)
        if time.monotonic() > until:
            break
    return made


def _found(pictures: Pictures, plan: Plan, rows: Rows, until: float) -> Iterator[Picture]:
    positions: dict[int, list[int]] = {}
    for unit, position in zip(rows.units, rows.positions, strict=True):
        positions.setdefault(unit, []).append(position)
    for unit in interleaved(sorted(positions)):
        if time.monotonic() > until:
            return
        yield from pictures.of(plan.unit(unit), positions[unit])


def interleaved(items: Sequence[int]) -> Iterator[int]:
    """All items, so that the first few are from everywhere: every 16th, then those between."""
    step = 16
    for start in sorted(range(step), key=lambda n: f"{n:04b}"[::-1]):
        yield from items[start::step]


def _thumbnail(pictures: Pictures, share: int, picture: Picture) -> tuple[Picture, Thumbnail]:
    try:
        image = pictures.load(picture, FORMS[0][0])
    except RowError as error:
        return picture, Thumbnail(fault=redact(error.message))
    except Exception as error:  # what decoders and stores' clients meet
        return picture, Thumbnail(fault=one_line(error))
    return picture, encoded(image, share)


def encoded(image: Image.Image, most: int) -> Thumbnail:
    """A picture in the largest form that has at most `most` bytes; without one if none has."""
    for side, quality in FORMS:
        image.thumbnail((side, side))
        file = io.BytesIO()
        image.save(file, "WEBP", quality=quality, method=3)
        body = file.getvalue()
        if len(body) <= most:
            uri = f"data:image/webp;base64,{base64.b64encode(body).decode()}"
            return Thumbnail(uri=uri, width=image.width, height=image.height)
    return Thumbnail(fault="there is no room for it in the page")
