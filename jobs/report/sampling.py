"""Decides which rows of an OUTPUT are shown: a sample by outcome and by part, always the same one.

Each outcome gets `LEAST` rows, if it has as many, and what is left is divided in proportion to the
rows; so that rare failures are there to look at. The rows of an outcome are taken at equal
distances through all parts, so each part gives in proportion to what it has. In a large OUTPUT
they are taken in clusters of neighbours, so that at most about `MOST_CLUSTERS` parts are read.

Nothing is read for it but the counts of rows by part and outcome.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

LEAST = 500
MOST_CLUSTERS = 512

Ordinals = Mapping[str, Mapping[str, np.ndarray]]
"""By part and outcome: which rows of the part with that outcome, counted from 0, ascending."""


def allocate(counts: Mapping[str, int], rows: int) -> dict[str, int]:
    """How many rows of each outcome are shown: all together `rows`, or all if there are fewer.

    Args:
        counts: Rows by outcome.
        rows: Most rows that are shown.
    """
    total = sum(counts.values())
    if total <= rows:
        return dict(counts)
    least = min(LEAST, rows // len(counts))
    base = {outcome: min(count, least) for outcome, count in counts.items()}
    rest = {outcome: count - base[outcome] for outcome, count in counts.items()}
    left, others = rows - sum(base.values()), sum(rest.values())
    shares = {outcome: left * count / others for outcome, count in rest.items()}
    given = {outcome: base[outcome] + int(share) for outcome, share in shares.items()}
    by_fraction = sorted(shares, key=lambda outcome: int(shares[outcome]) - shares[outcome])
    for outcome in by_fraction[: rows - sum(given.values())]:
        given[outcome] += 1
    return given


def spread(count: int, wanted: int, clusters: int) -> np.ndarray:
    """[wanted] int64, ascending: which of `count` rows are taken, in clusters of equal size.

    Args:
        count: Rows there are.
        wanted: Rows to take, at most `count`.
        clusters: Most clusters.
    """
    taken = np.arange(wanted, dtype=np.int64)
    clusters = max(1, min(wanted, clusters))
    cluster = taken * clusters // max(1, wanted)
    passed_over = (2 * cluster + 1) * (count - wanted) // (2 * clusters)
    return taken + passed_over


def choose(counts: pa.Table, rows: int) -> Ordinals:
    """Which rows of which parts are shown.

    Args:
        counts: See `pipeline.output.counts.committed_counts`.
        rows: Most rows that are shown.
    """
    counts = counts.sort_by("part")
    parts = counts["part"].to_pylist()
    by_part = [json.loads(text) for text in counts["outcomes"].to_pylist()]
    outcomes = sorted({outcome for found in by_part for outcome in found})
    table = {o: np.array([found.get(o, 0) for found in by_part], np.int64) for o in outcomes}
    totals = {outcome: int(column.sum()) for outcome, column in table.items()}
    wanted = allocate({o: n for o, n in totals.items() if n}, rows)
    chosen: dict[str, dict[str, np.ndarray]] = {}
    for outcome, number in wanted.items():
        taken = spread(totals[outcome], number, MOST_CLUSTERS // len(wanted))
        ends = table[outcome].cumsum()
        place = np.searchsorted(ends, taken, side="right")
        begins = ends - table[outcome]
        for part in np.unique(place).tolist():
            of_part = taken[place == part] - begins[part]
            chosen.setdefault(parts[part], {})[outcome] = of_part
    return {part: chosen[part] for part in sorted(chosen)}
