"""What is no fault of a row: a store, an engine or a renderer that does not start."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.contract.config import EngineConfig
from pipeline.contract.errors import Fault
from pipeline.images import ImageLimits
from pipeline.output import journal as journal_module
from pipeline.output.journal import Journal
from pipeline.stages import poison_rows as poison_module
from pipeline.stages.blocks import Item, pack, seal, unpack, unseal
from pipeline.stages.generate import Generate
from pipeline.stages.parse import parse_block
from pipeline.stages.poison_rows import PoisonRows
from pipeline.stages.render import Render
from pipeline.storage.location import locate
from tests.pipeline.fakes import ColourTask, FakeEngine, FakeRenderer
from tests.pipeline.stages.samples import (
    CONFIG,
    FAILED,
    FAULTY,
    answered,
    answers,
    png,
    rendered_row,
)


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


def test_an_actor_that_holds_nothing_says_so_of_every_row(tmp_path: Path) -> None:
    def absent(_: EngineConfig) -> Any:
        raise OSError("no such device")

    stage = Render(ColourTask(), CONFIG, absent, locate(str(tmp_path)), ImageLimits(9, 9))
    (sealed,) = stage(seal(pack([Item("u", 0, payload={"image": None}), FAILED])))
    (block,) = unseal(sealed)
    items = [*unpack(block)]
    assert items[0].fault == Fault(True, "a renderer did not start: OSError: no such device")
    assert items[1] == FAILED
