"""A row's results, its outcome, and what the driver is told of both."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.contract.record import Outcome
from pipeline.contract.task import Generation, Prepared, Result, Row
from pipeline.output.journal import Journal
from pipeline.stages.blocks import Item, pack
from pipeline.stages.parse import RECEIPT, parse_block
from pipeline.storage.location import locate
from tests.pipeline.fakes import ColourTask
from tests.pipeline.stages.samples import FAILED, SAME, answered, png, rendered


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
