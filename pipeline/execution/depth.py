"""How many rows travel together, and how many of them are in an engine's actor at once.

Many, so that the engine has rows while Ray brings the next ones: a block that is answered and the
one that takes its place are seconds apart when the driver, the store or the machine is busy. Each
trip of a block costs the driver milliseconds and the journal a file, so rows of text travel in
large blocks; images in small ones, which are rendered side by side (`render` divides those of rows
with many images). But what waits for one engine cannot go to another one: of few rows, no engine
gets more than its share at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from pipeline.contract.task import PICTURES, ShowsVideos

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pipeline.contract.task import ColumnKind, Task
    from pipeline.execution.placement import Placement

LONG_BLOCK = 4
LONGEST_BLOCK = 16
"""A block of text has from so many to so many times `RunConfig.block_rows`: the longer, the more
requests the engine works on at once, as it answers more rows a second."""
BLOCKS = 16
"""Blocks of each engine, of all its rows and of those in its actor, before they are made longer."""
LEAST_BLOCK = 4
"""Rows of a block at least, where each has images."""
WAVES = 4
ROWS = 2048
"""An engine's actor has so many times the rows that the engine works on at once, or so many rows
for each GPU if that is more: about 20 s of what a 4B model does on an H200."""
IMAGE_BYTES = 896 * 896 * 3
"""Bytes of a rendered image."""
BYTES = 2 * 2**30
"""Bytes of images in an engine's actor, at most, if it can be full with them; also about 20 s."""
FULL_BYTES = 10 * 2**30
"""Bytes of images in an engine's actor, at most, whatever it takes to be full: as of videos."""
SHARE = 4
"""At the end, of rows that were given out, the engines have about the same number. They get at most
one in so many of their share of all rows at once, so that they end together."""


class Care(Enum):
    """How rows are run, by what happened to their processes before."""

    NONE = "as fast as can be"
    FEW = "few at once, so that few are lost again with the one that ends its process"
    ALONE = "each row alone in its process"


@dataclass(frozen=True, kw_only=True)
class Depth:
    """How rows are given out.

    Attributes:
        block_rows: Rows that travel together, at most.
        blocks: Blocks in each engine's actor at once.
    """

    block_rows: int
    blocks: int


def has_images(columns: Iterable[ColumnKind]) -> bool:
    """Whether rows with these columns have images."""
    return not PICTURES.isdisjoint(columns)


def images_of(task: Task) -> int:
    """Images that most of a task's rows have: 0, 1, or the frames of a video."""
    frames = task.most_frames if isinstance(task, ShowsVideos) else 0
    return frames or int(has_images(task.columns.values()))


def longest_block(placement: Placement, block_rows: int, *, images: bool) -> int:
    """Most rows of a block, with images or without, by `RunConfig.block_rows`."""
    if images:
        return block_rows
    fitting = _waiting(placement) // BLOCKS
    return max(LONG_BLOCK * block_rows, min(fitting, LONGEST_BLOCK * block_rows))


def _waiting(placement: Placement) -> int:
    """Rows in an engine's actor."""
    return max(WAVES * placement.requests, ROWS * placement.engine_gpus)


def depth(
    placement: Placement,
    *,
    rows: int,
    block_rows: int,
    images: int = 0,
    care: Care = Care.NONE,
) -> Depth:
    """Choose how rows are given out.

    Args:
        placement: The engines.
        rows: Rows of all that is to be computed.
        block_rows: `RunConfig.block_rows`.
        images: Images of a row, about; see `images_of`.
        care: What is known of them.
    """
    if care is Care.ALONE:
        return Depth(block_rows=1, blocks=1)
    if care is Care.FEW:
        return Depth(block_rows=block_rows, blocks=2)
    share = -(-rows // placement.engines)
    waiting = _waiting(placement)
    if images:
        waiting = min(waiting, BYTES // (images * IMAGE_BYTES))
    least = min(LEAST_BLOCK, block_rows) if images else block_rows
    longest = longest_block(placement, block_rows, images=images > 0)
    block_rows = min(max(least, share // BLOCKS), longest)
    full = min(share, 2 * placement.requests)
    if images:
        block_rows = max(1, block_rows // images)
        full = min(full, max(1, FULL_BYTES // (images * IMAGE_BYTES)))
    waiting = max(full, min(waiting, share // SHARE))
    return Depth(block_rows=block_rows, blocks=max(2, -(-waiting // block_rows)))
