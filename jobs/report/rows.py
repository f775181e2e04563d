"""Reads the rows that are shown, as values for people: within a bound of memory and of characters.

Images and other bytes are not read. A text is kept whole up to `LONGEST` characters; where the
texts of all rows together are more than `MOST_CHARACTERS`, the longest are cut further, and it is
told how much is missing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.output.parts import part_index, read_part
from pipeline.sources.columns import is_image_struct, without_binary
from pipeline.sources.readable import readable_values
from pipeline.storage.parallel import in_order

if TYPE_CHECKING:
    from jobs.report.sampling import Ordinals
    from pipeline.output.plan import Plan

EXACT_IN_JAVASCRIPT = 2**53 - 1
"""JavaScript would round a larger integer, and show another id."""
LONGEST = 200_000
MOST_CHARACTERS = 24 * 2**20
AHEAD = 4
"""Parts that are read at once."""

Values = dict[str, list[Any]]


@dataclass
class Rows:
    """Rows of an OUTPUT, by columns.

    Attributes:
        values: By column, a value for each row: text, number, bool, list of texts, or None.
        units: For each row the index of its unit in the plan.
        positions: For each row its position there.
        cut: By column and row, how many characters of a text are missing.
    """

    values: Values = field(default_factory=dict)
    units: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    cut: dict[str, dict[int, int]] = field(default_factory=dict)

    def __len__(self) -> int:
        """How many rows."""
        return len(self.units)

    def column(self, name: str) -> list[Any]:
        """The values of a column; None in all rows where there is no such column."""
        return self.values.get(name) or [None] * len(self)


def read_rows(plan: Plan, chosen: Ordinals, outcome_column: str) -> Rows:
    """Read rows, in input order.

    Args:
        plan: The plan of the OUTPUT.
        chosen: Which rows of which parts.
        outcome_column: The column that tells a row's outcome.

    Raises:
        OSError: A part cannot be read.
        UserError: It is not as it was written.
    """
    rows, limit = Rows(), _Limit()
    read = in_order(lambda part: _read(plan, part, chosen[part], outcome_column), chosen, AHEAD)
    for part, (table, positions) in zip(chosen, read, strict=True):
        unit = int(plan.heads[part_index(part)])
        rows.units += [unit] * len(positions)
        rows.positions += positions
        _append(rows, table)
        limit.keep(rows)
    return rows


def _read(
    plan: Plan, part: str, chosen: Mapping[str, np.ndarray], outcome_column: str
) -> tuple[pa.Table, list[int]]:
    """Rows of a part, and their positions there."""
    table = read_part(plan.output / part, _is_shown)
    outcomes = table[outcome_column]
    positions: list[int] = []
    for outcome, ordinals in chosen.items():
        there = np.flatnonzero(pc.equal(outcomes, outcome).to_numpy(zero_copy_only=False))
        # A retry may have replaced the part since it was counted.
        positions += there[ordinals[ordinals < len(there)]].tolist()
    positions.sort()
    return table.take(pa.array(positions, pa.int64())), positions


def _is_shown(column: pa.Field) -> bool:
    """Whether a column is no bytes; of images only their path, which other columns mostly tell."""
    if is_image_struct(column.type):
        return False
    return bool(without_binary(pa.schema([column])).names)


def _append(rows: Rows, table: pa.Table) -> None:
    """Add a table's rows; of columns that only some parts have, the other rows have None."""
    before = len(rows) - table.num_rows
    for name in table.column_names:
        rows.values.setdefault(name, [None] * before).extend(_values(table[name]))
    for values in rows.values.values():
        values.extend([None] * (len(rows) - len(values)))


def _values(column: pa.ChunkedArray) -> list[Any]:
    return [shown(value) for value in readable_values(column)]


def shown(value: Any) -> Any:
    """A value as JSON and a reader can take it: text, number, bool, list of texts, or None."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, int) and abs(value) > EXACT_IN_JAVASCRIPT:
        return str(value)
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


class _Limit:
    """The most characters of a text, lowered whenever all texts together are too many."""

    def __init__(self) -> None:
        self._most = LONGEST
        self._seen = 0
        self._characters = 0

    def keep(self, rows: Rows) -> None:
        """Cut what is too long in rows that were added since the last call, or in all."""
        self._characters += self._cut(rows, self._seen)
        while self._characters > MOST_CHARACTERS and self._most > 1:
            self._most //= 2
            self._characters = self._cut(rows, 0)
        self._seen = len(rows)

    def _cut(self, rows: Rows, since: int) -> int:
        """Cut the texts from a row on; returns the characters that they have then."""
        total = 0
        for name, values in rows.values.items():
            for row in range(since, len(values)):
                value = values[row]
                if isinstance(value, list):
                    value = values[row] = self._cut_list(value)
                    total += sum(map(len, value))
                if isinstance(value, str):
                    if len(value) > self._most:
                        cut = rows.cut.setdefault(name, {})
                        cut[row] = cut.get(row, 0) + len(value) - self._most
                        values[row] = value[: self._most]
                    total += len(values[row])
        return total

    def _cut_list(self, texts: list[str]) -> list[str]:
        """As many of the texts as there is room for, and a sign that there are more."""
        kept: list[str] = []
        room = self._most
        for text in texts:
            if len(text) > room:
                return [*kept, "…"]
            kept.append(text)
            room -= len(text) + 1
        return kept
