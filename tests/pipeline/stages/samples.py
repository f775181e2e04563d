"""What the tests of stages share: items, blocks and answers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.contract.config import EngineConfig
from pipeline.contract.errors import Fault
from pipeline.contract.record import Outcome
from pipeline.contract.task import Generation, Request, Row, Sampling
from pipeline.images import ImageLimits
from pipeline.sources import Source
from pipeline.sources.units import Work
from pipeline.stages.blocks import BLOCK, Item, pack, seal, unpack, unseal
from pipeline.stages.generate import Answered, EngineReport, Generate
from pipeline.stages.read import pack_work, read_units
from pipeline.stages.render import Render
from pipeline.stages.rendered_row import RenderedRow
from pipeline.storage.location import locate
from tests.pipeline.fakes import FakeRenderer
from tests.pipeline.sample_images import encoded, plain

CONFIG = EngineConfig(model="m", max_model_len=5)
FAILED = Item("u", 9, outcome=Outcome.DECODE_ERROR, error="decode: it was broken")
SAME = Item("u", 8, same_as=3)
FAULTY = Item("u", 7).faulty(Fault(ends_run=True, message="no engine"))


def png(colour: tuple[int, int, int]) -> bytes:
    return encoded(plain(colour), "PNG")


def blocks(
    work: pa.Table, source: Source, columns: list[str], dedup: bool, block_rows: int = 32
) -> list[pa.Table]:
    sealed = read_units(work, source, columns, dedup, block_rows)
    return [block for one in sealed for block in unseal(one)]


def read(source: Source, work: list[Work], columns: list[str], *, dedup: bool) -> list[Item]:
    table = pa.table({"work": [pack_work(piece) for piece in work]})
    return [item for block in blocks(table, source, columns, dedup) for item in unpack(block)]


def rendered(task: Any, rows: list[Row], tmp_path: Path) -> list[Item]:
    stage = Render(task, CONFIG, FakeRenderer, locate(str(tmp_path)), ImageLimits(10**6, 10**6))
    (sealed,) = stage(seal(pack([Item("u", i, payload=row) for i, row in enumerate(rows)])))
    (block,) = unseal(sealed)
    assert block.schema == BLOCK
    return [*unpack(block)]


def rendered_row(colour: tuple[int, int, int]) -> RenderedRow:
    request = FakeRenderer(CONFIG).render(Request("Which colour?", Sampling(4)), [plain(colour)])
    return RenderedRow((request, request), state=colour)


def answered(text: str) -> Answered:
    generation = Generation(text, prompt_tokens=7, output_tokens=3, finish_reason="stop")
    return Answered((generation,), {"seen": True}, EngineReport("x.Model", 5.0))


def answers(stage: Generate, block: pa.Table) -> list[pa.Table]:
    async def run() -> list[pa.Table]:
        return [block async for sealed in stage(seal(block)) for block in unseal(sealed)]

    return asyncio.run(run())
