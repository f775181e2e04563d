from __future__ import annotations

import pytest

from pipeline.sources.units import cut_evenly, cut_row_groups, unit_id
from tests.pipeline.output.samples import unit


@pytest.mark.parametrize(
    ("row_groups", "ranges"),
    [
        ([], []),
        ([0, 0], []),
        ([3], [(0, 3)]),
        ([4, 4, 4], [(0, 8), (8, 12)]),  # two fit, at their border
        ([10, 10], [(0, 10), (10, 20)]),  # exactly full
        ([25], [(0, 8), (8, 16), (16, 25)]),  # larger than a unit: cut inside, evenly
        ([4, 25, 4], [(0, 4), (4, 12), (12, 20), (20, 29), (29, 33)]),
        ([1, 0, 1], [(0, 2)]),
    ],
)
def test_row_groups_are_cut_at_their_borders_where_they_fit(
    row_groups: list[int], ranges: list[tuple[int, int]]
) -> None:
    assert cut_row_groups(row_groups, 10) == ranges


@pytest.mark.parametrize("rows", [1, 9, 10, 11, 99, 1234])
def test_even_cuts_cover_everything_once(rows: int) -> None:
    ranges = cut_evenly(5, 5 + rows, 10)
    assert [row for start, stop in ranges for row in range(start, stop)] == [*range(5, 5 + rows)]
    lengths = [stop - start for start, stop in ranges]
    assert max(lengths) <= 10
    assert max(lengths) - min(lengths) <= 1


def test_nothing_is_cut_into_nothing() -> None:
    assert cut_evenly(0, 0, 10) == []


def test_an_id_changes_with_whatever_the_unit_holds() -> None:
    file = ("a/b.parquet", 100, "7")
    same = unit_id([("a/b.parquet", 100, "7")], 0, 10)
    assert unit_id([file], 0, 10) == same
    others = [
        unit_id([("a/c.parquet", 100, "7")], 0, 10),
        unit_id([("a/b.parquet", 101, "7")], 0, 10),
        unit_id([("a/b.parquet", 100, "8")], 0, 10),
        unit_id([file], 1, 10),
        unit_id([file], 0, 11),
        unit_id([file, file], 0, 10),
    ]
    assert len({same, *others}) == 7


def test_a_unit_is_named_by_its_file_and_rows() -> None:
    assert unit(files=("x.parquet",), start=5, stop=9).name == "x.parquet rows 5-9"
    assert unit(files=("a.png", "b.png", "c.png"), stop=3).name == "a.png to c.png"
    assert unit(start=5, stop=9).rows == 4
