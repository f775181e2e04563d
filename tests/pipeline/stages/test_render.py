"""A row's requests are rendered, or it has an outcome of its own."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from PIL.Image import Image

from pipeline.contract.record import Outcome
from pipeline.contract.task import Prepared, Request, Row, Sampling
from pipeline.engine.interface import Rendered
from pipeline.images import ImageLimits
from pipeline.stages.blocks import Item, measures_of, pack, seal, unpack, unseal
from pipeline.stages.render import BLOCK_BYTES, Render
from pipeline.storage.location import locate
from tests.pipeline.fakes import ENDLESS, ColourTask, FakeRenderer
from tests.pipeline.sample_images import truncated_jpeg
from tests.pipeline.stages.samples import CONFIG, png, rendered


def render_alone(folder: Path, colours: list[tuple[int, int, int]]) -> None:
    config = CONFIG.model_copy(update={"stall_seconds": 3.0})
    stage = Render(
        ColourTask(), config, SleepyRenderer, locate(str(folder)), ImageLimits(10**6, 10**6)
    )
    rows = [Item("u", i, payload={"image": png(colour)}) for i, colour in enumerate(colours)]
    (block,) = (block for sealed in stage(seal(pack(rows))) for block in unseal(sealed))
    assert not any(item.outcome for item in unpack(block))
    time.sleep(3.5)  # without a row to render nothing stands still


class SleepyRenderer(FakeRenderer):
    def render(self, request: Request, images: Sequence[Image]) -> Rendered:
        time.sleep(0.5)
        return super().render(request, images)


@pytest.mark.parametrize(("colours", "code"), [([(1, 2, 3)] * 8, 0), ([(1, 2, 3), ENDLESS], 1)])
def test_only_a_row_that_is_never_rendered_ends_the_process(
    tmp_path: Path, colours: list[tuple[int, int, int]], code: int
) -> None:
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=render_alone, args=(tmp_path, colours))
    process.start()
    process.join(300)
    assert process.exitcode == code


def test_a_row_that_cannot_be_rendered_does_not_hurt_the_others(tmp_path: Path) -> None:
    rows = [
        {"image": png((1, 2, 3))},
        {"image": truncated_jpeg()},
        {"image": None},
        {"image": png((4, 5, 6))},
    ]
    items = rendered(ColourTask(), rows, tmp_path)
    assert [item.outcome for item in items] == [
        None,
        Outcome.DECODE_ERROR,
        Outcome.MISSING_INPUT,
        None,
    ]
    assert items[0].payload.requests[0].prompt == ("Which colour?", [(1, 2, 3)])
    assert items[3].payload.requests[0].prompt == ("Which colour?", [(4, 5, 6)])
    assert (items[1].error or "").startswith("decode: ")
    assert items[2].error == "fetch: the image is null"


class LargeRenderer(FakeRenderer):
    """Of images that take three quarters of a block's bytes."""

    def render(self, request: Request, images: Sequence[Image]) -> Rendered:
        return replace(super().render(request, images), nbytes=BLOCK_BYTES * 3 // 4)


def test_rows_with_many_images_go_on_in_shorter_blocks(tmp_path: Path) -> None:
    images = [None, *[png((colour, 2, 3)) for colour in range(5)]]
    rows = seal(pack([Item("u", at, payload={"image": image}) for at, image in enumerate(images)]))
    limits = ImageLimits(10**6, 10**6)
    stage = Render(ColourTask(), CONFIG, LargeRenderer, locate(str(tmp_path)), limits)
    blocks = [block for sealed in stage(rows) for block in unseal(sealed)]
    assert [block.num_rows for block in blocks] == [3, 2, 1]
    assert [item.position for block in blocks for item in unpack(block)] == [*range(6)]
    spans = [span for block in blocks for span in measures_of(block).spans]
    assert [span.rows for span in spans] == [3, 2, 1]


@dataclass(frozen=True)
class LongTask(ColourTask):
    def prepare(self, row: Row) -> Prepared:
        return Prepared((Request(row["text"], Sampling(1)),))


def test_a_prompt_that_is_too_long_is_that_rows_outcome(tmp_path: Path) -> None:
    items = rendered(LongTask(), [{"text": "one two"}, {"text": "one " * 6}, {}], tmp_path)
    assert [item.outcome for item in items] == [None, Outcome.TOO_LONG, Outcome.DECODE_ERROR]
    assert items[2].error == "render: KeyError: 'text'"
