"""A row that is worked on alone has a mark, by which one that kills its process is found."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from pathlib import Path

from pipeline.contract.task import Generation, Result
from pipeline.output.journal import Journal
from pipeline.stages.blocks import Item, pack
from pipeline.stages.parse import parse_block
from pipeline.stages.poison_rows import MAX_DEATHS, PoisonRows
from pipeline.storage.location import locate
from tests.pipeline.fakes import ColourTask
from tests.pipeline.stages.samples import answered


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
