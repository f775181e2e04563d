"""Decides what of two rows that belong together has changed, and which of them are shown.

Counts are of all rows. Of those whose answers changed, and of those whose outcome did, a sample is
kept: the rows with the smallest hash of their key, which is the same sample whatever order they
come in.
"""

from __future__ import annotations

import heapq
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.report.diff.pairs import POSITION, UNIT, of_input
from jobs.report.diff.words import around_change
from jobs.report.rows import shown
from pipeline.sources.readable import readable_rows, readable_values

if TYPE_CHECKING:
    from jobs.report.diff.pairs import Pairs

OUTCOME, TOKENS = "outcome", ("prompt_tokens", "output_tokens")
LONGEST = 20_000
"""Characters of a text that is shown."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Two rows that belong together and differ.

    Attributes:
        key: The first row's key.
        name: What people call it.
        unit: Index of the first row's unit.
        position: Its position there.
        outcomes: Of both.
        errors: Of both.
        sources: Texts that were asked about, by column.
        answers: By column, both values as text.
    """

    key: str
    name: str
    unit: int
    position: int
    outcomes: tuple[str, str]
    errors: tuple[str | None, str | None]
    sources: Mapping[str, str]
    answers: Mapping[str, tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Distance:
    """How far the numbers of a column moved.

    Attributes:
        rows: Rows that have a number in both OUTPUTs.
        total: The sum of the moves.
        most: The largest.
    """

    rows: int = 0
    total: float = 0.0
    most: float = 0.0

    @property
    def mean(self) -> float:
        """The move of a row, on average; 0 of none."""
        return self.total / self.rows if self.rows else 0.0


@dataclass
class Changes:
    """What differs between the rows of two OUTPUTs.

    Attributes:
        compared: The answers' columns, by their common name.
        sources: Columns of texts that were asked about.
        naming: A column that names a row; None if none does.
        samples: Most rows of each kind that are kept.
        both: Rows that have a partner.
        alone: Rows that have none, of each.
        unclear: Rows whose partner cannot be told, of each.
        outcomes: Rows by both outcomes.
        changed: Rows by column whose value changed.
        any_answer: Rows of which any answer changed.
        distance: By column of numbers, how far they moved.
        tokens: Sums over rows that have a partner, by column, of each.
    """

    compared: Sequence[str]
    sources: Sequence[str]
    naming: str | None
    samples: int
    both: int = 0
    alone: tuple[int, int] = (0, 0)
    unclear: tuple[int, int] = (0, 0)
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    any_answer: int = 0
    distance: dict[str, Distance] = field(default_factory=dict)
    tokens: dict[str, tuple[int, int]] = field(default_factory=dict)
    _kept: dict[str, list[tuple[int, str, Sample]]] = field(default_factory=dict)

    def add(self, pairs: Pairs) -> None:
        """Count rows that belong together."""
        self.alone = _sum(self.alone, pairs.alone)
        self.unclear = _sum(self.unclear, pairs.unclear)
        one, other = pairs.one, pairs.other
        if not one.num_rows:
            return
        self.both += one.num_rows
        befores, afters = one[OUTCOME].to_pylist(), other[OUTCOME].to_pylist()
        self.outcomes.update(zip(befores, afters, strict=True))
        for name in TOKENS:
            sums = tuple(pc.sum(table[name]).as_py() or 0 for table in (one, other))
            self.tokens[name] = _sum(self.tokens.get(name, (0, 0)), (sums[0], sums[1]))
        is_any = np.zeros(one.num_rows, dtype=bool)
        for name in self.compared:
            is_changed = changed_rows(one[name], other[name])
            self.changed[name] += int(is_changed.sum())
            is_any |= is_changed
            self._measure(name, one[name], other[name])
        self.any_answer += int(is_any.sum())
        is_moved = np.array([b != a for b, a in zip(befores, afters, strict=True)])
        self._keep("outcome", pairs, np.flatnonzero(is_moved))
        self._keep("answer", pairs, np.flatnonzero(is_any & ~is_moved))

    def kept(self) -> list[Sample]:
        """The sample, in the order of the keys: rows with another outcome and another answer."""
        found = {key: sample for kept in self._kept.values() for _, key, sample in kept}
        return [found[key] for key in sorted(found)]

    def _measure(self, name: str, one: pa.ChunkedArray, other: pa.ChunkedArray) -> None:
        """How far numbers moved."""
        if not (pa.types.is_floating(one.type) and pa.types.is_floating(other.type)):
            return
        moved = pc.abs(pc.subtract(other.cast(pa.float64()), one.cast(pa.float64()))).drop_null()
        before = self.distance.get(name, Distance())
        self.distance[name] = Distance(
            rows=before.rows + len(moved),
            total=before.total + (pc.sum(moved).as_py() or 0.0),
            most=max(before.most, pc.max(moved).as_py() or 0.0),
        )

    def _keep(self, kind: str, pairs: Pairs, rows: np.ndarray) -> None:
        heap = self._kept.setdefault(kind, [])
        keys = pairs.one["row_key"]
        for row in rows.tolist():
            key = keys[row].as_py()
            rank = -zlib.crc32(key.encode())  # a heap has the least on top, here the largest hash
            if len(heap) < self.samples:
                heapq.heappush(heap, (rank, key, self._sample(pairs, row)))
            elif heap and rank > heap[0][0]:
                heapq.heapreplace(heap, (rank, key, self._sample(pairs, row)))

    def _sample(self, pairs: Pairs, row: int) -> Sample:
        one, other = (readable_rows(t.slice(row, 1))[0] for t in (pairs.one, pairs.other))
        named = one.get(of_input(self.naming)) if self.naming else None
        sources = {name: one.get(of_input(name)) for name in self.sources}
        return Sample(
            key=one["row_key"],
            name=_text(named) if named is not None else one["row_key"],
            unit=one[UNIT],
            position=one[POSITION],
            outcomes=(one[OUTCOME], other[OUTCOME]),
            errors=(one["error"], other["error"]),
            sources={name: _text(value) for name, value in sources.items() if value is not None},
            answers={name: _texts(one[name], other[name]) for name in self.compared},
        )


def changed_rows(one: pa.ChunkedArray, other: pa.ChunkedArray) -> np.ndarray:
    """[rows] bool: which values differ. Null equals null, NaN equals NaN."""
    nested = pa.types.is_nested(one.type) or pa.types.is_nested(other.type)
    if nested or one.type != other.type:
        pairs = zip(readable_values(one), readable_values(other), strict=True)
        return np.fromiter((before != after for before, after in pairs), bool, len(one))
    is_equal = pc.fill_null(pc.equal(one, other), False)
    is_equal = pc.or_(
        is_equal, pc.and_(pc.is_null(one, nan_is_null=True), pc.is_null(other, nan_is_null=True))
    )
    changed: np.ndarray = ~is_equal.to_numpy()
    return changed


def _sum(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return one[0] + other[0], one[1] + other[1]


def _texts(one: Any, other: Any) -> tuple[str, str]:
    """Both values for people, so that a difference is seen: cut around it, with all its digits."""
    texts = _whole(one), _whole(other)
    if texts[0] == texts[1]:
        texts = _whole(one, is_exact=True), _whole(other, is_exact=True)
    return around_change(*texts, LONGEST)


def _text(value: Any) -> str:
    """A value for people, cut where it is longer than anybody reads."""
    text = _whole(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _whole(value: Any, *, is_exact: bool = False) -> str:
    found = shown(value, is_exact=is_exact)
    if isinstance(found, list):
        found = ", ".join(found)
    return "" if found is None else str(found)


def cells(outcomes: Counter[tuple[str, str]]) -> Iterator[tuple[str, str, int]]:
    """The cross table as a list: both outcomes and the rows, the largest first."""
    for (before, after), rows in outcomes.most_common():
        yield before, after, rows
