"""Drivers take numbers one after the other, on a disk and in object stores."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.output.fencing import begin_epoch
from pipeline.storage.location import Location
from tests.stores import STORES, new_folder


@pytest.fixture(params=STORES)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """An empty OUTPUT on each kind of store."""
    return new_folder(request, tmp_path / "out")


def test_drivers_get_numbers_of_their_own(folder: Location) -> None:
    with ThreadPoolExecutor(8) as pool:
        epochs = [*pool.map(lambda _: begin_epoch(folder), range(8))]
    assert sorted(epoch.number for epoch in epochs) == [*range(1, 9)]
    assert [epoch.is_newest for epoch in sorted(epochs, key=lambda epoch: epoch.number)] == [
        *[False] * 7,
        True,
    ]
