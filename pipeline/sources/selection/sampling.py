"""Decides which rows are drawn at random: those with the smallest hashes.

A row's hash is of the seed, its file's path and its number in the file. So the sample is the same
however files are cut into units, and on every machine; of any rows, whether they were filtered or
not, it is as good as uniform, without replacement; and it takes one pass, in which memory holds
about twice the rows that are drawn.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pipeline.sources.units import Cut

SPARE = 65_536
"""Rows that are held beyond twice the sample before the largest hashes are dropped."""


def sampled(
    cuts: Iterable[tuple[Cut, np.ndarray]], count: int, seed: int
) -> Iterator[tuple[Cut, np.ndarray]]:
    """Draw rows.

    Args:
        cuts: Cuts, each with the rows of it to draw from: [rows] int64, counted from its first.
        count: How many rows to draw; all are, if there are no more.
        seed: Another seed draws other rows.

    Yields:
        The cuts with rows that were drawn, in their order; the rows ascending.
    """
    pool = _Pool(count)
    for cut, rows in cuts:
        pool.add(cut, rows, hashes(cut, rows, seed))
    yield from pool.drawn()


def hashes(cut: Cut, rows: np.ndarray, seed: int) -> np.ndarray:
    """[rows] uint64: the hashes of rows of a cut; of images each is a file."""
    if len(cut.files) > 1:
        starts = np.array([_hash(cut.files[row], seed) for row in rows.tolist()], np.uint64)
        return _mixed(starts)
    start = np.array([_hash(cut.files[0], seed)], np.uint64)
    return _mixed(start + (cut.start + rows).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))


def _hash(path: str, seed: int) -> int:
    digest = hashlib.blake2b(f"{seed}:{path}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def _mixed(values: np.ndarray) -> np.ndarray:
    """Spread uint64 numbers evenly: the finalizer of SplitMix64 (Steele et al., OOPSLA 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = values ^ (values >> np.uint64(31))
    return mixed


class _Pool:
    """The rows with the smallest hashes so far."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._cuts: dict[int, Cut] = {}
        self._numbers: list[np.ndarray] = [np.zeros(0, np.int64)]
        self._rows: list[np.ndarray] = [np.zeros(0, np.int64)]
        self._hashes: list[np.ndarray] = [np.zeros(0, np.uint64)]
        self._held = self._next = 0
        self._largest: np.uint64 | None = None

    def add(self, cut: Cut, rows: np.ndarray, hashes: np.ndarray) -> None:
        """Offer rows of a cut."""
        if self._largest is not None:
            is_smaller = hashes <= self._largest
            rows, hashes = rows[is_smaller], hashes[is_smaller]
        number, self._next = self._next, self._next + 1
        if not len(rows):
            return
        self._cuts[number] = cut
        self._numbers.append(np.full(len(rows), number, np.int64))
        self._rows.append(rows)
        self._hashes.append(hashes)
        self._held += len(rows)
        if self._held > 2 * self._count + SPARE:
            self._drop_largest()

    def drawn(self) -> Iterator[tuple[Cut, np.ndarray]]:
        """The rows that are left, see `sampled`."""
        self._drop_largest()
        numbers, rows = self._numbers[0], self._rows[0]
        order = np.lexsort((rows, numbers))
        numbers, rows = numbers[order], rows[order]
        found, begins = np.unique(numbers, return_index=True)
        for number, some in zip(found.tolist(), np.split(rows, begins[1:]), strict=False):
            yield self._cuts[number], some

    def _drop_largest(self) -> None:
        numbers, rows, hashes = map(np.concatenate, (self._numbers, self._rows, self._hashes))
        if len(hashes) > self._count:
            kept = np.argpartition(hashes, self._count - 1)[: self._count]
            numbers, rows, hashes = numbers[kept], rows[kept], hashes[kept]
            self._largest = hashes.max()
        self._numbers, self._rows, self._hashes = [numbers], [rows], [hashes]
        self._cuts = {number: self._cuts[number] for number in np.unique(numbers).tolist()}
        self._held = len(rows)
