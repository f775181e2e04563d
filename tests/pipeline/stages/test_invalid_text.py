"""Values that parquet holds and Python cannot: text that is not UTF-8, times beyond its last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import EngineConfig, RunConfig, run
from pipeline.contract.record import Outcome
from pipeline.contract.task import ColumnKind, Generation, Prepared, Request, Result, Row, Sampling
from pipeline.sources import list_input, open_source
from pipeline.sources.readable import readable_rows
from pipeline.sources.units import Work
from pipeline.stages.blocks import Item, unpack, unseal
from pipeline.stages.read import pack_work, read_units
from tests.pipeline.fakes import FAKE
from tests.pipeline.output.samples import unit

BODIES = [b"good", b"caf\xe9 \xff", None, b"fine", b"cut \xe2\x82", b"caf\xc3\xa9", b"\xed\xa0\x80"]
INVALID = [1, 4, 6]
"""Latin-1, a character cut off, and half of a surrogate pair."""

WORDS = pa.dictionary(pa.int32(), pa.string())

SAID = pa.schema([pa.field("said", pa.string())])


def written(folder: Path, type_: pa.DataType) -> Path:
    folder.mkdir()
    binary = pa.large_binary() if pa.types.is_large_string(type_) else pa.binary()
    if pa.types.is_dictionary(type_):
        texts = pa.array(BODIES, binary).view(type_.value_type).dictionary_encode()
    else:
        texts = pa.array(BODIES, binary).view(type_)
    pq.write_table(pa.table({"text": texts, "n": [*range(len(BODIES))]}), folder / "a.parquet")
    return folder


@dataclass(frozen=True)
class EchoTask:
    """Says the row's text."""

    name: str = "echo"
    columns: Mapping[str, ColumnKind] = field(default_factory=lambda: {"text": ColumnKind.TEXT})
    result_schema: pa.Schema = SAID

    @property
    def settings(self) -> Mapping[str, object]:
        return {}

    def prepare(self, row: Row) -> Prepared:
        return Prepared((Request(str(row["text"]), Sampling(4)),))

    def result(self, state: object, generations: Sequence[Generation]) -> Result:
        return Result({"said": generations[0].text})


@pytest.mark.parametrize("type_", [pa.string(), pa.large_string(), WORDS])
@pytest.mark.parametrize("dedup", [False, True])
def test_such_a_row_is_a_fault_of_its_own(tmp_path: Path, type_: pa.DataType, dedup: bool) -> None:
    source = open_source(
        list_input(str(written(tmp_path / "in", type_))), unit_rows=60, keep_images=False
    )
    work = pa.table({"work": [pack_work(Work(unit(files=("a.parquet",), stop=len(BODIES))))]})
    sealed = read_units(work, source, ["n", "text"], dedup, 32)
    items: list[Item] = [item for one in sealed for block in unseal(one) for item in unpack(block)]
    assert [item.position for item in items] == [*range(len(BODIES))]
    assert [item.position for item in items if item.outcome is not None] == INVALID
    assert {item.outcome for item in items if item.outcome} == {Outcome.DECODE_ERROR}
    assert items[4].error == "read: the column 'text' is not UTF-8 (at byte 4)"
    assert items[5].payload == {"n": 5, "text": "café"}


LAST = {
    "9999 in Berlin": (pa.timestamp("s", "Europe/Berlin"), 253402300799),
    "milliseconds read as seconds": (pa.timestamp("s"), 1700000000000),
    "a day before the year 1": (pa.date32(), -800000),
}


@pytest.mark.parametrize("case", LAST)
def test_a_time_that_python_has_not_is_a_fault_of_its_row(tmp_path: Path, case: str) -> None:
    type_, value = LAST[case]
    column = pa.array([0, value, None], pa.int64())
    if pa.types.is_date(type_):
        column = column.cast(pa.int32())
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"at": column.view(type_)}), tmp_path / "in/a.parquet")
    source = open_source(list_input(str(tmp_path / "in")), unit_rows=60, keep_images=False)
    work = pa.table({"work": [pack_work(Work(unit(files=("a.parquet",), stop=3)))]})
    sealed = read_units(work, source, ["at"], False, 32)
    items: list[Item] = [item for one in sealed for block in unseal(one) for item in unpack(block)]
    assert [item.outcome for item in items] == [None, Outcome.DECODE_ERROR, None]
    assert "read: the column 'at' has no value that can be read" in str(items[1].error)
    rows = readable_rows(pa.table({"at": column.view(type_), "n": [1, 2, 3]}))
    assert [row["n"] for row in rows] == [1, 2, 3]
    assert rows[2]["at"] is None
    assert isinstance(rows[1]["at"], str)


@pytest.mark.usefixtures("ray_cluster")
def test_a_run_goes_on_and_the_bytes_pass_through(tmp_path: Path, gemma_folder: Path) -> None:
    source = written(tmp_path / "in", pa.string())
    engine = EngineConfig(model=str(gemma_folder), max_model_len=64)
    config = RunConfig(input=str(source), output=str(tmp_path / "out"), engine=engine)
    table = run(config, EchoTask(), backend=FAKE).table()
    assert table["text"].combine_chunks().view(pa.binary()).to_pylist() == BODIES
    outcomes = table["outcome"].to_pylist()
    assert [at for at, one in enumerate(outcomes) if one == "decode_error"] == INVALID
    assert table["said"].to_pylist() == ["good", None, "None", "fine", None, "café", None]
    assert table["error"][1].as_py() == "read: the column 'text' is not UTF-8 (at byte 3)"
