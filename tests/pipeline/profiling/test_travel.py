"""What is measured on rows comes to the driver with them, through all stages."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.contract.config import EngineConfig
from pipeline.images import ImageLimits
from pipeline.output.journal import Journal
from pipeline.profiling.measures import Measures, Moment, Span, Stretch, unpacked
from pipeline.sources import list_input, open_source
from pipeline.sources.units import Work
from pipeline.stages.blocks import Item, measures_of, pack, seal, unseal
from pipeline.stages.generate import Generate
from pipeline.stages.parse import Parse
from pipeline.stages.read import pack_work, read_units
from pipeline.stages.render import Render
from pipeline.storage.location import locate
from tests.pipeline.fakes import ColourTask, FakeEngine, FakeRenderer
from tests.pipeline.output.samples import unit
from tests.pipeline.sample_images import encoded, plain

ROWS = 6
BLOCK_ROWS = 4


def receipts_of(folder: Path) -> list[Measures]:
    """Read, render, generate and parse rows of two units; gives what comes with the receipts."""
    images = [encoded(plain((n + 1, 2, 3)), "PNG") for n in range(ROWS)]
    pq.write_table(pa.table({"image": images}), folder / "a.parquet")
    source = open_source(list_input(str(folder)), unit_rows=3, keep_images=False)
    first = unit(id="u", files=("a.parquet",), stop=3)
    second = unit(id="v", files=("a.parquet",), start=3, stop=ROWS)
    work = pa.table({"work": [pack_work(Work(piece)) for piece in (first, second)]})
    task, config, root = ColourTask(), EngineConfig(model="m"), locate(str(folder))
    render = Render(task, config, FakeRenderer, root, ImageLimits(10**6, 10**6))
    generate = Generate(config, FakeEngine)

    async def answers(block: pa.Table) -> list[pa.Table]:
        return [answered async for answered in generate(block)]

    parse = Parse(task, Journal(root, task.result_schema))
    receipts = [
        receipt
        for sealed in read_units(work, source, ["image"], dedup=True, block_rows=BLOCK_ROWS)
        for rendered in render(sealed)
        for answered in asyncio.run(answers(rendered))
        for receipt in parse(answered)
    ]
    packed = [one for receipt in receipts for one in receipt["measures"].to_pylist()]
    return [unpacked([one]) for one in packed]


def test_measures_travel_with_their_rows(tmp_path: Path) -> None:
    found = receipts_of(tmp_path)
    stages = [[(span.stage, span.rows) for span in measures.spans] for measures in found]
    way = ("read", "render", "generate")
    assert stages == [
        # The first block has rows of two units. It is unpacked as a whole.
        [*((stage, 4) for stage in way), ("parse", 0), ("parse", 3), ("journal", 3)],
        [("parse", 1), ("journal", 1)],
        [*((stage, 2) for stage in way), ("parse", 0), ("parse", 2), ("journal", 2)],
    ]
    read, render, generate, unpacked, parse, journal = found[0].spans
    assert {*read.seconds} == {"read", "pack"}
    assert {*render.seconds} == {"unpack", "prepare", "fetch", "decode", "tokenise", "pack"}
    assert {*generate.seconds} == {"unpack", "pack"}
    assert {*unpacked.seconds} == {"unpack", "parse"}
    assert ({*parse.seconds}, {*journal.seconds}) == ({"parse"}, {"journal"})
    assert read.ended <= render.began <= render.ended <= generate.began <= unpacked.ended
    assert unpacked.ended <= parse.began <= parse.ended <= journal.began <= journal.ended
    assert all(second >= 0 for span in found[0].spans for second in span.seconds.values())
    assert read.size > 4 * 50
    moments = [moment.name for measures in found for moment in measures.moments]
    assert moments == ["renderer_ready", "engine_ready", "first_given", "first_answered"]


def test_a_block_keeps_what_it_carries() -> None:
    carried = Measures(moments=(Moment("engine_ready", 1.0),))
    block = pack([Item("u", 0), Item("u", 1)], Stretch("read", carried))
    (again,) = unseal(seal(block))
    joined = pa.concat_tables([again, again, pack([Item("u", 2)])])
    found = measures_of(joined)
    assert (len(found.moments), [span.rows for span in found.spans]) == (2, [2, 2])
    assert measures_of(pack([])) == Measures()


def test_a_block_without_rows_takes_nothing_away() -> None:
    class Kept:
        def finished(self, rows: int, size: int) -> Measures:
            raise AssertionError("nobody could carry it")

    assert pack([], Kept()).num_rows == 0


def test_measures_pack() -> None:
    one = Measures(spans=(Span("read", 1.0, 2.0, 3, {"read": 1.0}, 4),))
    other = Measures(moments=(Moment("x", 1.0, {"a": 2.0}),))
    assert unpacked([one.packed(), other.packed()]) == one + other
