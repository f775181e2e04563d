"""All rows are with the engine at once, and each gets its own answers."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import pyarrow as pa

from pipeline.contract.errors import RowError
from pipeline.contract.record import Outcome
from pipeline.contract.task import Generation, Sampling
from pipeline.engine.interface import Rendered
from pipeline.stages.blocks import Item, pack, seal, unpack, unseal
from pipeline.stages.generate import Generate
from pipeline.stages.rendered_row import RenderedRow
from tests.pipeline.fakes import POISON, FakeEngine
from tests.pipeline.stages.samples import CONFIG, FAILED, rendered_row


def test_all_rows_are_with_the_engine_at_once() -> None:
    together = 0

    class Counting(FakeEngine):
        waiting = 0

        async def generate(self, rendered: Any, key: str) -> Generation:
            nonlocal together
            self.waiting += 1
            await asyncio.sleep(0)
            together = max(together, self.waiting)
            return await super().generate(rendered, key)

    stage = Generate(CONFIG, Counting)
    items = [
        Item("u", 0, payload=rendered_row((1, 2, 3))),
        FAILED,
        Item("u", 2, payload=rendered_row(POISON)),
        Item("u", 3, payload=rendered_row((4, 5, 6))),
    ]

    async def run() -> list[pa.Table]:
        return [block async for sealed in stage(seal(pack(items))) for block in unseal(sealed)]

    (block,) = asyncio.run(run())
    out = [*unpack(block)]
    assert together == 6
    assert [item.outcome for item in out] == [
        None,
        Outcome.DECODE_ERROR,
        Outcome.ENGINE_ERROR,
        None,
    ]
    assert [a.text for a in out[0].payload.generations] == ["1 2 3", "1 2 3"]
    assert out[3].payload.state == (4, 5, 6)
    assert out[2].error == "generate: the fake engine refused this one"
    assert out[0].payload.engine.model_class == FakeEngine.model_class


def test_a_request_that_may_fail_costs_its_row_nothing_else() -> None:
    def rendered(colour: tuple[int, int, int], *, may_fail: bool) -> Rendered:
        return Rendered(("prompt", [colour]), 9, Sampling(4), may_fail=may_fail)

    lost = RowError(Outcome.TOO_LONG, "render", "the prompt has 9 tokens")
    items = [
        Item("u", 0, payload=RenderedRow((rendered(POISON, may_fail=True), lost), None)),
        Item("u", 1, payload=RenderedRow((rendered((1, 2, 3), may_fail=True), lost), None)),
        Item(
            "u",
            2,
            payload=RenderedRow(
                (rendered((1, 2, 3), may_fail=True), rendered(POISON, may_fail=False)), None
            ),
        ),
    ]
    stage = Generate(CONFIG, FakeEngine)

    async def run() -> list[pa.Table]:
        return [block async for sealed in stage(seal(pack(items))) for block in unseal(sealed)]

    (block,) = asyncio.run(run())
    none, one, failed = unpack(block)
    refused, too_long = none.payload.generations
    assert refused.failure is not None
    assert refused.failure.outcome is Outcome.ENGINE_ERROR
    assert str(too_long.failure) == str(lost)
    assert none.payload.engine is None  # nobody answered anything
    assert one.payload.generations[0].text == "1 2 3"
    assert one.payload.engine is not None
    assert failed.outcome is Outcome.ENGINE_ERROR


def test_no_request_outlives_its_row() -> None:
    """It would be in the engine beside more rows than there is room for, and be blamed on them."""
    given_up = []

    class Patient(FakeEngine):
        async def generate(self, rendered: Any, key: str) -> Generation:
            if key.endswith("-1"):
                raise RowError(Outcome.ENGINE_ERROR, "generate", "refused")
            try:
                return await asyncio.sleep(60, Generation("", 1, 1, "stop"))
            except asyncio.CancelledError:
                await asyncio.sleep(0)  # the engine is told
                given_up.append(key)
                raise

    async def test() -> tuple[Item, list[str]]:
        stage = Generate(CONFIG, Patient)
        request = Rendered("x", 1, Sampling(4))
        items = [Item("u", 0, payload=RenderedRow((request,) * 3, None))]
        (row,) = await stage._feed.answers(pack(items))
        return row, sorted(key[-2:] for key in given_up)

    row, ended = asyncio.run(asyncio.wait_for(test(), 30))
    assert row.error == "generate: refused"
    assert ended == ["-0", "-2"]


def test_the_engine_is_closed_when_its_process_exits() -> None:
    code = """
from pipeline.contract.config import EngineConfig
from pipeline.stages.generate import Generate

class Engine:
    def __init__(self, config): pass
    def stats(self): pass
    def close(self): print("closed")

stage = Generate(EngineConfig(model="m"), Engine)
print("exits")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["exits", "closed"]
