"""Each stage by itself, without Ray: one row's fault is its own."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.config import EngineConfig
from pipeline.errors import RunError
from pipeline.images import ImageLimits
from pipeline.journal import Journal
from pipeline.record import Outcome
from pipeline.sources import open_source
from pipeline.stages.blocks import BLOCK, Item, pack, unpack
from pipeline.stages.generate import Answered, EngineReport, Generate
from pipeline.stages.parse import RECEIPT, parse_block
from pipeline.stages.read import read_units
from pipeline.stages.render import Job, Render
from pipeline.storage import locate
from pipeline.task import Generation, Prepared, Request, Result, Row, Sampling
from tests.pipeline.fakes import POISON, ColourTask, FakeEngine, FakeRenderer
from tests.pipeline.pictures import encoded, plain, truncated_jpeg

CONFIG = EngineConfig(model="m", max_model_len=5)
FAILED = Item("u", 9, None, Outcome.DECODE_ERROR, "decode: it was broken")


def png(colour: tuple[int, int, int]) -> bytes:
    return encoded(plain(colour), "PNG")


def test_blocks_have_one_schema_and_lose_nothing() -> None:
    items = [Item("u", 0, {"any": (b"thing", None)}), FAILED]
    block = pack(items)
    assert block.schema == BLOCK
    assert [*unpack(block)] == items
    assert pack([FAILED]).schema == BLOCK


def test_reading_numbers_the_rows_of_each_unit(tmp_path: Path) -> None:
    pq.write_table(pa.table({"n": range(100), "other": range(100)}), tmp_path / "a.parquet")
    source = open_source(locate(str(tmp_path)), unit_rows=60, keep_images=False)
    units = source.units()
    table = pa.table({"unit": [unit.to_json() for unit in units]})
    items = [item for block in read_units(table, source, ["n"]) for item in unpack(block)]
    assert [item.position for item in items] == [*range(50), *range(50)]
    assert [item.payload for item in items] == [{"n": n} for n in range(100)]
    (tmp_path / "a.parquet").unlink()
    with pytest.raises(RunError, match=r"a.parquet rows 0-50 cannot be read: FileNotFoundError"):
        list(read_units(table, source, ["n"]))


def rendered(task: Any, rows: list[Row], tmp_path: Path) -> list[Item]:
    stage = Render(task, CONFIG, FakeRenderer, locate(str(tmp_path)), ImageLimits(10**6, 10**6))
    (block,) = stage(pack([Item("u", i, row) for i, row in enumerate(rows)]))
    assert block.schema == BLOCK
    return [*unpack(block)]


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


@dataclass(frozen=True)
class LongTask(ColourTask):
    def prepare(self, row: Row) -> Prepared:
        return Prepared((Request(row["text"], Sampling(1)),))


def test_a_prompt_that_is_too_long_is_that_rows_outcome(tmp_path: Path) -> None:
    items = rendered(LongTask(), [{"text": "one two"}, {"text": "one " * 6}, {}], tmp_path)
    assert [item.outcome for item in items] == [None, Outcome.TOO_LONG, Outcome.DECODE_ERROR]
    assert items[2].error == "render: KeyError: 'text'"


def job(colour: tuple[int, int, int]) -> Job:
    request = FakeRenderer(CONFIG).render(Request("Which colour?", Sampling(4)), [plain(colour)])
    return Job((request, request), state=colour)


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
        Item("u", 0, job((1, 2, 3))),
        FAILED,
        Item("u", 2, job(POISON)),
        Item("u", 3, job((4, 5, 6))),
    ]

    async def run() -> list[pa.Table]:
        return [block async for block in stage(pack(items))]

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


def test_the_engine_is_closed_when_its_process_exits() -> None:
    code = """
from pipeline.config import EngineConfig
from pipeline.stages.generate import Generate

class Engine:
    def __init__(self, config): pass
    def close(self): print("closed")

stage = Generate(EngineConfig(model="m"), Engine)
print("exits")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["exits", "closed"]


def answered(text: str) -> Answered:
    generation = Generation(text, prompt_tokens=7, output_tokens=3, finish_reason="stop")
    return Answered((generation,), {"seen": True}, EngineReport("x.Model", 5.0))


def test_parsing_journals_each_unit_and_sends_a_receipt(tmp_path: Path) -> None:
    task = ColourTask()
    journal = Journal(str(tmp_path), task.result_schema, {"id": "r"})
    items = [
        Item("u", 1, answered("1 2 3")),
        Item("v", 0, answered("not a number")),
        Item("u", 0, answered("999999 2 3")),  # does not fit the column's type
        FAILED,
    ]
    receipts = pa.concat_tables(parse_block(pack(items), task, journal))
    assert receipts.schema == RECEIPT
    assert receipts.select(["unit", "positions", "failed", "model_class"]).to_pylist() == [
        {"unit": "u", "positions": [0, 1, 9], "failed": 2, "model_class": "x.Model"},
        {"unit": "v", "positions": [0], "failed": 1, "model_class": "x.Model"},
    ]
    (file,) = (tmp_path / "_gemma3_batch/journal/u").iterdir()
    rows = {row["position"]: row for row in pq.read_table(file).to_pylist()}
    assert rows[1] == {
        "position": 1, "colour": [1, 2, 3], "outcome": "ok", "error": None,
        "prompt_tokens": 7, "output_tokens": 3,
    }  # fmt: skip
    assert (rows[0]["outcome"], rows[0]["colour"]) == ("engine_error", None)
    assert rows[0]["error"].startswith("parse: ArrowInvalid: ")
    assert (rows[9]["outcome"], rows[9]["error"]) == ("decode_error", "decode: it was broken")


def test_a_result_without_results_has_null_columns(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Refusing(ColourTask):
        def result(self, state: object, generations: object) -> Result:
            return Result({"colour": [1, 2, 3]}, Outcome.REPETITION, "parse: it repeats itself")

    task = Refusing()
    journal = Journal(str(tmp_path), task.result_schema, {"id": "r"})
    list(parse_block(pack([Item("u", 0, answered("1 1 1"))]), task, journal))
    (file,) = (tmp_path / "_gemma3_batch/journal/u").iterdir()
    (row,) = pq.read_table(file).to_pylist()
    assert (row["colour"], row["outcome"]) == (None, "repetition")
    assert row["error"] == "parse: it repeats itself"
