"""Reads the rows that are shown, as values for people: within a bound of memory and of characters.

Images and other bytes are not read. A text is kept whole up to `LONGEST` characters; where the
texts of all rows together are more than `MOST_CHARACTERS`, the longest are cut further, and it is
told how much is missing. Sources, answers and names have most of that room. Columns of INPUT that
nothing was asked about have what is left; if it is too little for `LEAST` characters of each text,
the largest are left out. What every run adds, such as outcomes and errors, is never cut.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.report.columns import Role
from pipeline.output.parts import part_index, read_part
from pipeline.sources.columns import holds_binary
from pipeline.sources.readable import readable_values
from pipeline.storage.parallel import in_order

if TYPE_CHECKING:
    from jobs.report.columns import Columns
    from jobs.report.sampling import Ordinals
    from pipeline.output.plan import Plan

EXACT_IN_JAVASCRIPT = 2**53 - 1
"""JavaScript would round a larger integer, and show another id."""
LONGEST = 200_000
LEAST = 200
"""To fewer characters no text is cut of a column that can be left out."""
MOST_CHARACTERS = 24 * 2**20
OF_OTHERS = MOST_CHARACTERS // 4
"""That many are kept for columns that nothing was asked about."""
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
        left_out: Columns that there was no room for.
    """

    values: Values = field(default_factory=dict)
    units: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    cut: dict[str, dict[int, int]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        """How many rows."""
        return len(self.units)

    def column(self, name: str) -> list[Any]:
        """The values of a column; None in all rows where there is no such column."""
        return self.values.get(name) or [None] * len(self)

    def leave_out(self, name: str) -> None:
        """Forget a column, also of rows that are added later."""
        self.values.pop(name)
        self.cut.pop(name, None)
        self.left_out.append(name)


def read_rows(plan: Plan, chosen: Ordinals, columns: Columns) -> Rows:
    """Read rows, in input order.

    Args:
        plan: The plan of the OUTPUT.
        chosen: Which rows of which parts.
        columns: The columns of the OUTPUT.

    Raises:
        OSError: A part cannot be read.
        UserError: It is not as it was written.
    """
    rows, limit = Rows(), Limit(columns)
    scores = {column.name for column in columns.of_role(Role.SCORE)}
    outcome = columns.added("outcome")
    read = in_order(lambda part: _read(plan, part, chosen[part], outcome), chosen, AHEAD)
    for part, (table, positions) in zip(chosen, read, strict=True):
        unit = int(plan.heads[part_index(part)])
        rows.units += [unit] * len(positions)
        rows.positions += positions
        _append(rows, table, scores)
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
    """Whether a column has no bytes, as images have, whose path other columns mostly tell."""
    return not holds_binary(column.type)


def _append(rows: Rows, table: pa.Table, scores: Collection[str]) -> None:
    """Add a table's rows; of columns that only some parts have, the other rows have None."""
    before = len(rows) - table.num_rows
    for name in table.column_names:
        if name not in rows.left_out:
            values = _values(table[name], is_exact=name in scores)
            rows.values.setdefault(name, [None] * before).extend(values)
    for values in rows.values.values():
        values.extend([None] * (len(rows) - len(values)))


def _values(column: pa.ChunkedArray, *, is_exact: bool) -> list[Any]:
    return [shown(value, is_exact=is_exact) for value in readable_values(column)]


def shown(value: Any, *, is_exact: bool = False) -> Any:
    """A value as JSON and a reader can take it: text, number, bool, list of texts, or None.

    Args:
        value: As it is in OUTPUT.
        is_exact: Whether all digits of a fraction are kept. A score may be just below a threshold.
    """
    if isinstance(value, float):
        digits = value if is_exact else float(f"{value:.6g}")
        return digits if math.isfinite(value) else None
    if isinstance(value, int) and abs(value) > EXACT_IN_JAVASCRIPT:
        return str(value)
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    is_nested = isinstance(value, list | dict)  # otherwise a date, a time, a decimal number
    return json.dumps(value, ensure_ascii=False, default=str) if is_nested else str(value)


class Limit:
    """Keeps texts within `MOST_CHARACTERS`.

    Args:
        columns: The columns of the OUTPUT.
    """

    def __init__(self, columns: Columns) -> None:
        others = {column.name for column in columns.of_role(Role.OTHER)} - {columns.naming}
        self._texts = _Together({column.name for column in columns.all} - others)
        self._others = _Together(others)

    def keep(self, rows: Rows) -> None:
        """Cut what is too long in rows that were added since the last call, or in all."""
        self._texts.cut(rows, MOST_CHARACTERS - OF_OTHERS)
        room = MOST_CHARACTERS - self._texts.characters
        self._others.cut(rows, room, LEAST)
        self._others.leave_out(rows, room)


class _Together:
    """Columns with one limit of a text's characters, which is lowered whenever all are too many.

    Args:
        names: The columns.
    """

    def __init__(self, names: Collection[str]) -> None:
        self._names = names
        self._most = LONGEST
        self._longest = 0
        self._seen = 0
        self._counts: Counter[str] = Counter()

    @property
    def characters(self) -> int:
        """In all texts that were seen, as they are cut."""
        return self._counts.total()

    def cut(self, rows: Rows, room: int, least: int = 1) -> None:
        """Cut all texts until there is room for them, or they have `least` characters each."""
        self._counts += self._cut(rows, self._seen)
        while self.characters > room and self._most > least:
            self._most = max(min(self._most, self._longest) // 2, least)
            self._counts = self._cut(rows, 0)
        self._seen = len(rows)

    def leave_out(self, rows: Rows, room: int) -> None:
        """Leave out the largest columns until there is room for the others."""
        while self.characters > room:
            name, _ = self._counts.most_common(1)[0]
            rows.leave_out(name)
            del self._counts[name]

    def _cut(self, rows: Rows, since: int) -> Counter[str]:
        """Cut the texts from a row on; returns the characters that they have then, by column."""
        counts: Counter[str] = Counter()
        for name, values in rows.values.items():
            if name not in self._names:
                continue
            for row in range(since, len(values)):
                value = values[row]
                if isinstance(value, list):
                    value = values[row] = self._cut_list(value)
                    size = sum(map(len, value))
                elif isinstance(value, str):
                    if len(value) > self._most:
                        cut = rows.cut.setdefault(name, {})
                        cut[row] = cut.get(row, 0) + len(value) - self._most
                        values[row] = value[: self._most]
                    size = len(values[row])
                else:
                    continue
                counts[name] += size
                self._longest = max(self._longest, size)
        return counts

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
