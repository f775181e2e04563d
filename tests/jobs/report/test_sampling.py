from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from jobs.report.sampling import LEAST, MOST_CLUSTERS, allocate, choose, spread


def counts(parts: list[dict[str, int]]) -> pa.Table:
    names = [f"part-{number:08d}-u.parquet" for number in range(len(parts))]
    return pa.table({"part": names[::-1], "outcomes": [json.dumps(p) for p in parts[::-1]]})


@pytest.mark.parametrize(
    ("there", "rows"),
    [
        ({"ok": 10_000_000, "truncated": 7, "decode_error": 90_000}, 10_000),
        ({"ok": 1_000_000_000, "refused": 1}, 10_000),
        ({"ok": 10, "refused": 10, "too_long": 10}, 2),
        ({f"o{n}": n + 1 for n in range(10)}, 54),
    ],
)
def test_as_many_rows_as_wanted_are_divided_and_no_outcome_gets_more_than_it_has(
    there: dict[str, int], rows: int
) -> None:
    given = allocate(there, rows)
    assert sum(given.values()) == rows
    assert all(0 <= given[name] <= count for name, count in there.items())


def test_a_rare_outcome_is_shown_whole_and_a_small_output_too() -> None:
    given = allocate({"ok": 10_000_000, "truncated": 7, "decode_error": 90_000}, 10_000)
    assert given["truncated"] == 7
    assert given["decode_error"] >= LEAST
    assert allocate({"ok": 5, "refused": 2}, 10_000) == {"ok": 5, "refused": 2}


@pytest.mark.parametrize("clusters", [1, 3, 10, 1000])
@pytest.mark.parametrize(
    ("count", "wanted"), [(10, 10), (11, 10), (1000, 7), (10**9, 9999), (5, 0)]
)
def test_rows_are_distinct_in_order_and_exactly_as_many(
    count: int, wanted: int, clusters: int
) -> None:
    taken = spread(count, wanted, clusters)
    assert len(taken) == wanted
    assert (np.diff(taken) > 0).all()
    assert not wanted or (taken[0] >= 0 and taken[-1] < count)


def test_each_part_gives_in_proportion_to_what_it_has() -> None:
    parts = [{"ok": 1000}, {"ok": 3000}, {"ok": 2000, "refused": 50}]
    chosen = choose(counts(parts), 600)
    given = {part[5:13]: {o: len(rows) for o, rows in by.items()} for part, by in chosen.items()}
    assert [*given] == ["00000000", "00000001", "00000002"]
    assert sum(n for by in given.values() for n in by.values()) == 600
    oks = [given[part]["ok"] for part in given]
    assert oks == pytest.approx([100 * 550 / 600, 300 * 550 / 600, 200 * 550 / 600], abs=2)
    assert given["00000002"]["refused"] == 50


def test_of_many_parts_few_are_read() -> None:
    chosen = choose(counts([{"ok": 2000} for _ in range(20_000)]), 10_000)
    assert len(chosen) <= 2 * MOST_CLUSTERS
    assert sum(len(rows) for by in chosen.values() for rows in by.values()) == 10_000
    indices = [int(part[5:13]) for part in chosen]
    assert min(indices) < 40  # from the first to the last
    assert max(indices) > 19_960


def test_nothing_is_chosen_of_nothing() -> None:
    assert choose(counts([]), 10) == {}
    assert choose(counts([{}]), 10) == {}
