"""Each stage by itself, without Ray: one row's fault is its own."""

from __future__ import annotations

import asyncio
import errno
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from botocore.exceptions import NoCredentialsError
from fsspec.implementations.memory import MemoryFileSystem
from PIL.Image import Image

from pipeline.contract.config import EngineConfig
from pipeline.contract.errors import Fault, RowError
from pipeline.contract.record import Outcome
from pipeline.contract.task import Generation, Prepared, Request, Result, Row, Sampling
from pipeline.engine.interface import Rendered
from pipeline.images import ImageLimits
from pipeline.output import journal as journal_module
from pipeline.output.journal import Journal
from pipeline.sources import Source, list_input, open_source
from pipeline.sources.source import COPY_ROWS, READ_BYTES, size_of
from pipeline.sources.units import Work
from pipeline.stages import poison_rows as poison_module
from pipeline.stages.blocks import BLOCK, Item, measures_of, pack, seal, unpack, unseal
from pipeline.stages.generate import Answered, EngineReport, Generate
from pipeline.stages.parse import RECEIPT, parse_block
from pipeline.stages.poison_rows import MAX_DEATHS, PoisonRows
from pipeline.stages.read import pack_work, read_units
from pipeline.stages.render import BLOCK_BYTES, Render
from pipeline.stages.rendered_row import RenderedRow
from pipeline.storage.location import Location, locate
from tests.pipeline.fakes import ENDLESS, POISON, ColourTask, FakeEngine, FakeRenderer
from tests.pipeline.output.samples import unit
from tests.pipeline.sample_images import encoded, plain, truncated_jpeg

CONFIG = EngineConfig(model="m", max_model_len=5)
FAILED = Item("u", 9, outcome=Outcome.DECODE_ERROR, error="decode: it was broken")
SAME = Item("u", 8, same_as=3)
FAULTY = Item("u", 7).faulty(Fault(ends_run=True, message="no engine"))


def png(colour: tuple[int, int, int]) -> bytes:
    return encoded(plain(colour), "PNG")


def test_blocks_have_one_schema_and_lose_nothing() -> None:
    items = [Item("u", 0, payload={"any": (b"thing", None)}), FAILED, SAME, FAULTY]
    block = pack(items)
    assert block.schema == BLOCK
    assert [*unpack(block)] == items
    assert pack([FAILED]).schema == BLOCK


def test_the_pixels_of_an_image_are_in_a_block_once_and_are_read_where_they_are() -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (896, 896, 3), np.uint8)
    small = np.arange(10)
    sent = [Item("u", n, payload={"pixels": pixels + n, "small": small}) for n in range(3)]
    sealed = seal(pack([FAILED, *sent, SAME]))
    assert sealed.nbytes < 3 * 2.5e6
    (block,) = unseal(sealed)
    failed, *found, same = unpack(block)
    assert (failed, same) == (FAILED, SAME)
    lies = sealed["block"].chunk(0).buffers()[2]
    for item, right in zip(found, sent, strict=True):
        assert (item.unit, item.position) == (right.unit, right.position)
        for name, array in right.payload.items():
            np.testing.assert_array_equal(item.payload[name], array)
        assert not item.payload["pixels"].flags.writeable
        assert lies.address < item.payload["pixels"].ctypes.data < lies.address + lies.size
    del block, failed, same, sealed, lies
    np.testing.assert_array_equal(found[2].payload["pixels"], pixels + 2)  # it keeps its block


def blocks(
    work: pa.Table, source: Source, columns: list[str], dedup: bool, block_rows: int = 32
) -> list[pa.Table]:
    sealed = read_units(work, source, columns, dedup, block_rows)
    return [block for one in sealed for block in unseal(one)]


def read(source: Source, work: list[Work], columns: list[str], *, dedup: bool) -> list[Item]:
    table = pa.table({"work": [pack_work(piece) for piece in work]})
    return [item for block in blocks(table, source, columns, dedup) for item in unpack(block)]


def test_reading_numbers_the_rows_that_are_missing(tmp_path: Path) -> None:
    pq.write_table(pa.table({"n": range(100), "other": range(100)}), tmp_path / "a.parquet")
    source = open_source(list_input(str(tmp_path)), unit_rows=60, keep_images=False)
    first = unit(id="u", files=("a.parquet",), stop=50)
    second = unit(id="v", files=("a.parquet",), start=50, stop=100)
    work = [Work(first), Work(second, (0, 7, 49))]
    items = read(source, work, ["n"], dedup=True)
    assert [item.position for item in items] == [*range(50), 0, 7, 49]
    assert [item.payload for item in items] == [{"n": n} for n in (*range(50), 50, 57, 99)]
    (tmp_path / "a.parquet").unlink()
    faults = read(source, work, ["n"], dedup=True)
    assert [item.unit for item in faults] == ["u", "v"]
    assert faults[0].fault is not None
    assert not faults[0].fault.ends_run
    assert faults[0].fault.message.startswith("a.parquet rows 0-50 cannot be read: FileNotFound")


def test_positions_are_right_behind_tables_of_many_rows(tmp_path: Path) -> None:
    lines = (f'{{"n": {n}}}\n' for n in range(3 * COPY_ROWS))
    (tmp_path / "a.jsonl").write_text("".join(lines))  # three tables of `COPY_ROWS`
    source = open_source(list_input(str(tmp_path)), unit_rows=10**6, keep_images=False)
    whole = unit(files=("a.jsonl",), stop=3 * COPY_ROWS)
    items = read(source, [Work(whole)], ["n"], dedup=True)
    assert [item.position for item in items] == [item.payload["n"] for item in items]
    assert len(items) == 3 * COPY_ROWS
    wanted = (0, 1001, COPY_ROWS - 1, COPY_ROWS, COPY_ROWS + 1001, 3 * COPY_ROWS - 1)
    items = read(source, [Work(whole, wanted)], ["n"], dedup=True)
    assert [(item.position, item.payload["n"]) for item in items] == [(n, n) for n in wanted]


@pytest.mark.parametrize(
    ("error", "ends_run"),
    [
        (NoCredentialsError(), True),  # no OSError
        (PermissionError("Access Denied"), False),
        (ValueError("Bad Request"), False),
    ],
)
def test_a_unit_that_the_store_refuses_is_its_fault_or_the_runs(
    tmp_path: Path, error: Exception, ends_run: bool
) -> None:
    (tmp_path / "a.jsonl").write_text('{"n": 1}\n')
    source = open_source(list_input(str(tmp_path)), unit_rows=60, keep_images=False)

    class Refusing(MemoryFileSystem):
        def _open(self, *_: object, **__: object) -> None:
            raise error

    refused = replace(source, root=Location(Refusing(), "/in"))
    (item,) = read(refused, [Work(unit(files=("a.jsonl",), stop=1))], ["n"], dedup=True)
    assert item.fault is not None
    assert (item.fault.ends_run, item.fault.is_users) == (ends_run, ends_run)
    assert item.fault.message.startswith(f"a.jsonl rows 0-1 cannot be read: {type(error).__name__}")


def test_a_block_has_few_rows_and_few_bytes(tmp_path: Path) -> None:
    sizes = [*[10] * 5, *[READ_BYTES // 2] * 3, READ_BYTES * 2, 10, 10]
    column = pa.array([bytes([n]) * size for n, size in enumerate(sizes)], pa.binary())
    pq.write_table(pa.table({"b": column}), tmp_path / "a.parquet")
    source = open_source(list_input(str(tmp_path)), unit_rows=60, keep_images=False)
    work = pa.table({"work": [pack_work(Work(unit(files=("a.parquet",), stop=len(sizes))))]})
    found = [
        [item.position for item in unpack(one)] for one in blocks(work, source, ["b"], True, 4)
    ]
    assert found == [[0, 1, 2, 3], [4, 5, 6], [7, 8], [9, 10]]


def test_what_a_map_holds_counts() -> None:
    assert size_of({"m": [("key", b"x" * 1000), ("other", None)]}) == 1008


def test_of_identical_rows_the_first_travels(tmp_path: Path) -> None:
    table = {"a": [b"x", b"y", b"x", None, b"x"], "b": [1, 1, 1, 1, 2], "c": range(5)}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    source = open_source(list_input(str(tmp_path)), unit_rows=60, keep_images=True)
    work = [Work(unit(files=("a.parquet",), stop=5))]
    items = read(source, work, ["a", "b"], dedup=True)
    assert [item.same_as for item in items] == [None, None, 0, None, None]
    assert [item.is_settled for item in items] == [False, False, True, False, False]
    assert not any(item.is_settled for item in read(source, work, ["a", "b"], dedup=False))
    assert not any(item.is_settled for item in read(source, work, ["a", "c"], dedup=True))


def test_a_line_that_is_no_json_fails_alone(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"n": 1}\n{"n": \n{"n": 3}\n')
    source = open_source(list_input(str(tmp_path)), unit_rows=60, keep_images=False)
    items = read(source, [Work(unit(files=("a.jsonl",), stop=3))], ["n"], dedup=True)
    assert [item.outcome for item in items] == [None, Outcome.DECODE_ERROR, None]
    assert (items[1].error or "").startswith("read: a.jsonl line 2")


def rendered(task: Any, rows: list[Row], tmp_path: Path) -> list[Item]:
    stage = Render(task, CONFIG, FakeRenderer, locate(str(tmp_path)), ImageLimits(10**6, 10**6))
    (sealed,) = stage(seal(pack([Item("u", i, payload=row) for i, row in enumerate(rows)])))
    (block,) = unseal(sealed)
    assert block.schema == BLOCK
    return [*unpack(block)]


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


def rendered_row(colour: tuple[int, int, int]) -> RenderedRow:
    request = FakeRenderer(CONFIG).render(Request("Which colour?", Sampling(4)), [plain(colour)])
    return RenderedRow((request, request), state=colour)


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


def answered(text: str) -> Answered:
    generation = Generation(text, prompt_tokens=7, output_tokens=3, finish_reason="stop")
    return Answered((generation,), {"seen": True}, EngineReport("x.Model", 5.0))


def test_parsing_journals_each_unit_and_sends_a_receipt(tmp_path: Path) -> None:
    task = ColourTask()
    journal = Journal(locate(str(tmp_path)), task.result_schema)
    items = [
        Item("u", 1, payload=answered("1 2 3")),
        Item("v", 0, payload=answered("not a number")),
        Item("u", 0, payload=answered("999999 2 3")),  # does not fit the column's type
        FAILED,
        SAME,
    ]
    receipts = pa.concat_tables(parse_block(pack(items), task, journal))
    assert receipts.schema == RECEIPT
    columns = ["unit", "positions", "same_as", "outcomes", "error"]
    assert receipts.select(columns).to_pylist() == [
        {
            "unit": "u",
            "positions": [0, 1, 8, 9],
            "same_as": [None, None, 3, None],
            "outcomes": ["engine_error", "ok", None, "decode_error"],
            "error": "decode: it was broken",
        },
        {
            "unit": "v",
            "positions": [0],
            "same_as": [None],
            "outcomes": ["engine_error"],
            "error": receipts["error"][1].as_py(),
        },
    ]
    assert [len(reasons) for reasons in receipts["reasons"].to_pylist()] == [2, 1]
    assert receipts["model_class"].to_pylist() == ["x.Model"] * 2
    (file,) = (tmp_path / "_gemma3_batch/journal/u").iterdir()
    rows = {row["position"]: row for row in pq.read_table(file).to_pylist()}
    assert rows[1] == {
        "position": 1, "same_as": None, "colour": [1, 2, 3], "outcome": "ok", "error": None,
        "prompt_tokens": 7, "output_tokens": 3,
    }  # fmt: skip
    assert (rows[0]["outcome"], rows[0]["colour"]) == ("engine_error", None)
    assert rows[0]["error"].startswith("parse: ArrowInvalid: ")
    assert (rows[8]["same_as"], rows[8]["outcome"]) == (3, None)
    assert (rows[9]["outcome"], rows[9]["error"]) == ("decode_error", "decode: it was broken")


class HalvesTask(ColourTask):
    """Gives numbers that its column does not hold."""

    def result(self, state: object, generations: Sequence[Generation]) -> Result:
        colour = [int(number) / 2 for number in generations[0].text.split()]
        return Result({"colour": colour})


def test_a_result_is_not_rounded(tmp_path: Path) -> None:
    task = HalvesTask()
    journal = Journal(locate(str(tmp_path)), task.result_schema)
    items = [Item("u", n, payload=answered(text)) for n, text in enumerate(["2 4 6", "3 4 6"])]
    list(parse_block(pack(items), task, journal))
    (file,) = (tmp_path / "_gemma3_batch/journal/u").iterdir()
    rows = pq.read_table(file, columns=["colour", "outcome", "error"]).to_pylist()
    error = "parse: ValueError: 'colour' is 1.5, which is no int16"
    assert rows == [
        {"colour": [1, 2, 3], "outcome": "ok", "error": None},
        {"colour": None, "outcome": "engine_error", "error": error},
    ]


def test_a_fault_is_in_the_receipt_and_nothing_is_journalled(tmp_path: Path) -> None:
    task = ColourTask()
    journal = Journal(locate(str(tmp_path)), task.result_schema)
    (receipt,) = pa.concat_tables(parse_block(pack([FAULTY]), task, journal)).to_pylist()
    assert (receipt["positions"], receipt["fault"], receipt["ends_run"]) == ([], "no engine", True)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("place", ["journal", "marks"])
def test_an_output_that_cannot_be_written_is_a_fault_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    module = {"journal": journal_module, "marks": poison_module}[place]
    monkeypatch.setattr(module, "overwrite", full)
    output, task = locate(str(tmp_path)), ColourTask()
    marks = PoisonRows(output) if place == "marks" else None
    told = f"OUTPUT {tmp_path} cannot be written to: OSError: [Errno 28] No space left on device"
    block = pack([Item("u", 1, payload=answered("1 2 3"))])
    (receipt,) = pa.concat_tables(
        parse_block(block, task, Journal(output, task.result_schema), marks)
    ).to_pylist()
    assert (receipt["positions"], receipt["ends_run"]) == ([], True)
    assert receipt["fault"].startswith(told)
    if marks is not None:
        row = pack([Item("u", 1, payload={"image": png((1, 2, 3))})])
        render = Render(task, CONFIG, FakeRenderer, output, ImageLimits(9, 9), marks)
        assert fault_of(unseal(*render(seal(row)))).startswith(told)
        generate = Generate(CONFIG, FakeEngine, marks)
        rendered = pack([Item("u", 1, payload=rendered_row((1, 2, 3)))])
        assert fault_of(answers(generate, rendered)).startswith(told)


def test_a_store_that_fails_for_now_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(*_: object, **__: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(journal_module, "overwrite", slow)
    journal = Journal(locate(str(tmp_path)), ColourTask().result_schema)
    with pytest.raises(TimeoutError):
        list(parse_block(pack([FAILED]), ColourTask(), journal))


def fault_of(blocks: Iterable[pa.Table]) -> str:
    """The fault that ends the run, of one row."""
    ((item,),) = ([*unpack(block)] for block in blocks)
    assert item.fault is not None
    assert item.fault.ends_run
    return item.fault.message


def answers(stage: Generate, block: pa.Table) -> list[pa.Table]:
    async def run() -> list[pa.Table]:
        return [block async for sealed in stage(seal(block)) for block in unseal(sealed)]

    return asyncio.run(run())


@dataclass(frozen=True)
class LeavingTask(ColourTask):
    """Calls `sys.exit`, as a library may that was made for the command line."""

    def prepare(self, row: Row) -> Prepared:
        if row["image"] is None:
            sys.exit("no image")
        return super().prepare(row)

    def result(self, state: object, generations: Sequence[Generation]) -> Result:
        sys.exit(3)


def test_a_task_that_wants_to_exit_fails_its_row_only(tmp_path: Path) -> None:
    rows = [{"image": png((1, 2, 3))}, {"image": None}]
    good, left = rendered(LeavingTask(), rows, tmp_path)
    assert good.outcome is None
    assert (left.outcome, left.error) == (Outcome.DECODE_ERROR, "render: SystemExit: no image")
    journal = Journal(locate(str(tmp_path)), ColourTask().result_schema)
    block = pack([Item("u", 1, payload=answered("1 2 3"))])
    receipts = pa.concat_tables(parse_block(block, LeavingTask(), journal))
    assert receipts["error"].to_pylist() == ["parse: SystemExit: 3"]


def test_a_row_is_marked_while_it_is_parsed_alone(tmp_path: Path) -> None:
    class Watching(ColourTask):
        def result(self, state: object, generations: Sequence[Generation]) -> Result:
            marks.extend(path.name.split("-")[:2] for path in tmp_path.rglob("suspects/u/*"))
            return super().result(state, generations)

    marks: list[list[str]] = []
    output = locate(str(tmp_path))
    block = pack([Item("u", 1, payload=answered("1 2 3"))])
    journal = Journal(output, ColourTask().result_schema)
    list(parse_block(block, Watching(), journal, PoisonRows(output)))
    assert marks == [["1", "parse"]]
    assert not [*tmp_path.rglob("suspects/u/*")]


def test_an_actor_that_holds_nothing_says_so_of_every_row(tmp_path: Path) -> None:
    def absent(_: EngineConfig) -> Any:
        raise OSError("no such device")

    stage = Render(ColourTask(), CONFIG, absent, locate(str(tmp_path)), ImageLimits(9, 9))
    (sealed,) = stage(seal(pack([Item("u", 0, payload={"image": None}), FAILED])))
    (block,) = unseal(sealed)
    items = [*unpack(block)]
    assert items[0].fault == Fault(True, "a renderer did not start: OSError: no such device")
    assert items[1] == FAILED


def die(poison_rows: PoisonRows) -> None:
    with poison_rows.isolated("render", "u", 4):
        os._exit(1)


def test_a_row_leaves_a_mark_while_it_is_worked_on_alone(tmp_path: Path) -> None:
    poison_rows = PoisonRows(locate(str(tmp_path)))
    for _ in range(MAX_DEATHS):
        assert poison_rows.found("u") == {}
        worker = multiprocessing.get_context("fork").Process(target=die, args=(poison_rows,))
        worker.start()
        worker.join()
    with poison_rows.isolated("render", "u", 5):
        pass
    (tmp_path / "_gemma3_batch/suspects/u/.nfs0000000123").touch()  # an NFS client's own
    assert poison_rows.found("u") == {4: "render"}
    poison_rows.clear("u")
    assert poison_rows.found("u") == {}


def test_a_result_without_results_has_null_columns(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Refusing(ColourTask):
        def result(self, state: object, generations: object) -> Result:
            return Result({"colour": [1, 2, 3]}, Outcome.REPETITION, "parse: it repeats itself")

    task = Refusing()
    journal = Journal(locate(str(tmp_path)), task.result_schema)
    list(parse_block(pack([Item("u", 0, payload=answered("1 1 1"))]), task, journal))
    (file,) = (tmp_path / "_gemma3_batch/journal/u").iterdir()
    (row,) = pq.read_table(file).to_pylist()
    assert (row["colour"], row["outcome"]) == (None, "repetition")
    assert row["error"] == "parse: it repeats itself"


def test_a_state_that_does_not_pickle_fails_its_row_only() -> None:
    kept, failed = unpack(
        pack([Item("u", 0, payload={"a": 1}), Item("u", 1, payload=threading.Lock())])
    )
    assert kept.payload == {"a": 1}
    assert failed.outcome is Outcome.DECODE_ERROR
    assert "render: Prepared.state: TypeError: cannot pickle" in (failed.error or "")


class TwoArgumentsError(Exception):
    """Pickles, but its copy would be made with one argument."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__(f"{one} {other}")


class OpenHandle:
    def __getstate__(self) -> object:
        raise ValueError("the handle is open")


@pytest.mark.parametrize("state", [OpenHandle(), TwoArgumentsError(1, 2)])
def test_a_state_that_cannot_travel_fails_its_row_only(state: object) -> None:
    sent = [Item("u", 0, payload=RenderedRow((), state)), Item("u", 1, payload={"a": 1})]
    failed, kept = unpack(pack(sent))
    assert (failed.position, failed.outcome) == (0, Outcome.DECODE_ERROR)
    assert (failed.error or "").startswith("render: Prepared.state: ")
    assert kept.payload == {"a": 1}


def test_what_a_machine_lacks_is_not_its_rows_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("of_the_driver")
    exec("class State:\n    pass", module.__dict__)
    monkeypatch.setitem(sys.modules, "of_the_driver", module)
    block = pack([Item("u", 0, payload=module.State())])
    monkeypatch.delitem(sys.modules, "of_the_driver")
    with pytest.raises(ModuleNotFoundError, match="of_the_driver"):
        list(unpack(block))


@pytest.mark.parametrize(
    ("result", "outcome", "error"),
    [
        (Result({"colour": [1]}, outcome="ok"), "ok", None),  # type: ignore[arg-type]
        (Result(outcome="okay"), "engine_error", "parse: ValueError: 'okay' is not a valid Outc"),  # type: ignore[arg-type]
        (Result(outcome=Outcome.REPETITION, error=ValueError("x")), "repetition", "x"),  # type: ignore[arg-type]
        (Result(outcome=Outcome.REFUSED, error="no \ud83d, s3://k:s@b"), "refused", "no ?, s3://b"),
    ],
)
def test_an_outcome_is_one_of_ours_and_an_error_text(
    result: Result, outcome: str, error: str | None, tmp_path: Path
) -> None:
    class Loose(ColourTask):
        def result(self, state: object, generations: Sequence[Generation]) -> Result:
            return result

    task = Loose()
    journal = Journal(locate(str(tmp_path)), task.result_schema)
    list(parse_block(pack([Item("u", 0, payload=answered("1 1 1"))]), task, journal))
    (file,) = (tmp_path / "_gemma3_batch/journal/u").iterdir()
    (row,) = pq.read_table(file).to_pylist()
    assert row["outcome"] == outcome
    assert (row["error"] or "").startswith(error or "")
    assert (row["error"] is None) == (error is None)
