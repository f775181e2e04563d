"""How many rows travel together and wait for an engine."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.contract.task import ColumnKind
from pipeline.execution.depth import Care, Depth, depth, has_images, longest_block
from pipeline.execution.placement import Placement


def placed(engines: int, requests: int, gpus: int = 1) -> Placement:
    return Placement(
        engines=engines, engine_gpus=gpus, requests=requests, renderers=1, readers=1, parsers=1,
        cpu_share=0.1,
    )  # fmt: skip


def of(placement: Placement, rows: int, **how: Any) -> Depth:
    return depth(placement, rows=rows, **{"block_rows": 32, **how})


@pytest.mark.parametrize(
    ("engines", "requests", "gpus", "rows", "images", "block", "waiting"),
    [
        (1, 256, 1, 10**6, 0, 128, 2048),
        (1, 1024, 1, 10**6, 0, 256, 4096),
        (1, 4096, 1, 10**6, 0, 512, 16384),  # the more requests, the more answers a second
        (8, 256, 1, 10**6, 0, 128, 2048),
        (2, 256, 4, 10**6, 0, 512, 8192),
        (1, 256, 1, 10**6, 1, 32, 891),
        (1, 256, 1, 320, 1, 20, 320),  # few images are rendered side by side
        (1, 256, 1, 20, 1, 4, 20),
        (1, 256, 1, 10**6, 8, 4, 512),  # frames of videos
        (1, 256, 1, 10**6, 24, 1, 185),
        (1, 64, 0, 10**6, 0, 128, 256),
        (4, 256, 1, 4_000, 0, 62, 512),  # an engine has its share, but not all of it at once
        (4, 256, 1, 1_000, 0, 32, 256),  # none has more than its share
        (1, 64, 0, 20, 0, 32, 64),
    ],
)
def test_much_waits_but_never_more_than_a_share(
    engines: int, requests: int, gpus: int, rows: int, images: int, block: int, waiting: int
) -> None:
    found = of(placed(engines, requests, gpus), rows, images=images)
    assert found.block_rows == block
    assert waiting <= found.blocks * block < waiting + block or found.blocks == 2


@pytest.mark.parametrize("rows", [1, 10**3, 10**5, 10**7])
@pytest.mark.parametrize("engines", [1, 8, 64])
@pytest.mark.parametrize("requests", [1, 64, 256, 1024])
def test_an_engine_can_always_be_full(rows: int, engines: int, requests: int) -> None:
    found = of(placed(engines, requests), rows)
    assert found.blocks * found.block_rows >= min(2 * requests, rows // engines)


def test_rows_that_end_processes_are_few_at_once() -> None:
    placement = placed(8, 256)
    assert of(placement, 10**5, care=Care.FEW) == Depth(block_rows=32, blocks=2)
    assert of(placement, 10**5, care=Care.ALONE) == Depth(block_rows=1, blocks=1)


@pytest.mark.parametrize("rows", [1, 10**3, 10**7])
def test_no_block_is_longer_than_what_batches_are_counted_in(rows: int) -> None:
    for images in (False, True):
        for requests in (64, 1024, 4096):
            placement = placed(2, requests)
            found = of(placement, rows, images=images)
            assert found.block_rows <= longest_block(placement, 32, images=images)


def test_images_are_known_by_their_columns() -> None:
    assert has_images([ColumnKind.TEXT, ColumnKind.IMAGES])
    assert has_images([ColumnKind.IMAGE])
    assert not has_images([ColumnKind.TEXT, ColumnKind.VALUE])
