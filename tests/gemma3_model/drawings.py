"""The mask of :mod:`gemma3_model.attention`, drawn and defined, for every backend that keeps it."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A prompt's mask.

    Attributes:
        images: First and last position of each, inclusive.
        window: Of a local layer; None in a global one.
        mask: [queries, keys] bool.
    """

    images: list[tuple[int, int]]
    window: int | None
    mask: torch.Tensor


def _matrix(drawing: str) -> torch.Tensor:
    rows = [row.split() for row in drawing.strip().splitlines()]
    return torch.tensor([[cell == "x" for cell in row] for row in rows])


DRAWINGS = {
    "global layer": Drawing(
        images=[(1, 3), (4, 5)],
        window=None,
        mask=_matrix(
            """
            x . . . . . .
            x x x x . . .
            x x x x . . .
            x x x x . . .
            x x x x x x .
            x x x x x x .
            x x x x x x x
            """
        ),
    ),
    "an image as long as the window": Drawing(
        images=[(1, 3)],
        window=3,
        mask=_matrix(
            """
            x . . . . .
            x x x x . .
            x x x x . .
            . x x x . .
            . . x x x .
            . . . x x x
            """
        ),
    ),
    # Cut off behind only: ahead, an image's tokens see it to its end.
    "an image longer than the window": Drawing(
        images=[(1, 4)],
        window=2,
        mask=_matrix(
            """
            x . . . . .
            x x x x x .
            . x x x x .
            . . x x x .
            . . . x x .
            . . . . x x
            """
        ),
    ),
}


def defined(length: int, images: list[tuple[int, int]], window: int | None) -> torch.Tensor:
    """[length, length] bool, by the two lines of :mod:`gemma3_model.attention`."""
    query, key = torch.meshgrid(torch.arange(length), torch.arange(length), indexing="ij")
    same_block = torch.zeros(length, length, dtype=torch.bool)
    for first, last in images:
        same_block[first : last + 1, first : last + 1] = True
    mask = (key <= query) | same_block
    return mask if window is None else mask & (key > query - window)
