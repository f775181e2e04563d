"""A sample is the same rows however the input is cut, and any row is as likely as another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from pipeline.sources.selection import sampling
from pipeline.sources.selection.sampling import hashes, sampled
from pipeline.sources.units import Cut, cut_evenly

FILES = {"a.parquet": 1000, "b/c.parquet": 37, "d.parquet": 3000}


def cuts(unit_rows: int) -> list[tuple[Cut, np.ndarray]]:
    return [
        (Cut(files=(path,), start=start, stop=stop), np.arange(stop - start))
        for path, rows in FILES.items()
        for start, stop in cut_evenly(0, rows, unit_rows)
    ]


def drawn(among: Sequence[tuple[Cut, np.ndarray]], count: int, seed: int) -> list[tuple[str, int]]:
    return [
        (cut.files[0], cut.start + row)
        for cut, rows in sampled(among, count, seed)
        for row in rows.tolist()
    ]


@pytest.mark.parametrize("spare", [0, 65_536])
def test_a_sample_is_the_same_however_files_are_cut(
    spare: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "SPARE", spare)
    first = drawn(cuts(2000), 150, seed=3)
    assert len(first) == len({*first}) == 150
    assert first == sorted(first)  # in input order
    assert drawn(cuts(7), 150, seed=3) == first
    assert drawn(cuts(2000), 150, seed=4) != first
    assert len(drawn(cuts(100), 10_000, seed=0)) == sum(FILES.values())


def test_a_sample_has_the_smallest_hashes() -> None:
    among = cuts(500)
    whole = np.concatenate([hashes(cut, rows, 5) for cut, rows in among])
    chosen = np.concatenate([hashes(cut, rows, 5) for cut, rows in sampled(among, 99, 5)])
    assert sorted(chosen.tolist()) == sorted(whole.tolist())[:99]


def test_every_row_is_as_likely_as_another() -> None:
    times = np.zeros(100, np.int64)
    among = [(Cut(files=("x",), start=0, stop=100), np.arange(100))]
    for seed in range(2000):
        ((_, rows),) = sampled(among, 10, seed)
        times[rows] += 1
    # 200 expected, with a standard deviation of 13.4.
    assert times.min() > 200 - 5 * 13.4
    assert times.max() < 200 + 5 * 13.4


def test_of_images_each_is_a_row_of_its_own() -> None:
    names = tuple(f"{number}.png" for number in range(50))
    whole = [(Cut(files=names, start=0, stop=50), np.arange(50))]
    single = [(Cut(files=(name,), start=0, stop=1), np.arange(1)) for name in names]
    ((cut, rows),) = sampled(whole, 8, 1)
    one_by_one = [cut.files[0] for cut, _ in sampled(single, 8, 1)]
    assert [cut.files[row] for row in rows.tolist()] == one_by_one
