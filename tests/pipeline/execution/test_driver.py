"""What the driver makes of receipts and commits, without Ray's stages."""

from __future__ import annotations

import errno
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from pipeline import RunConfig, RunError
from pipeline.contract.errors import Fault
from pipeline.execution.commits import commit_or_fault
from pipeline.execution.display.display import display_of
from pipeline.execution.driver import Driver
from pipeline.execution.engine_logs import EngineLogs
from pipeline.execution.error_rate import ErrorRateError
from pipeline.execution.ledger import Ledger
from pipeline.execution.placement import Placement
from pipeline.execution.progress import RunProgress
from pipeline.execution.shutdown import Shutdown
from pipeline.metrics.labels import RunLabels
from pipeline.metrics.of_run import RunMetrics
from pipeline.output import parts as parts_module
from pipeline.output.commit import NewParts
from pipeline.output.journal import Journal
from pipeline.profiling.collector import Collector
from pipeline.profiling.measures import Measures
from pipeline.sources.units import Work
from pipeline.storage.location import Location, locate
from tests.pipeline.fakes import FAKE, ColourTask
from tests.pipeline.output.samples import Input, fill, journal_in, new_parts, source, unit

__all__ = ["source"]
PLACEMENT = Placement(
    engines=1, engine_gpus=0, requests=1, renderers=1, readers=1, parsers=1, cpu_share=0.1
)


@pytest.fixture
def output(tmp_path: Path) -> Location:
    return locate(str(tmp_path / "out"))


def driver_of(output: Location, **settings: Any) -> Driver:
    engine = {"model": "m"}
    config = RunConfig.model_validate(
        {"input": "i", "output": output.path, "engine": engine, **settings}
    )
    task, progress = ColourTask(), RunProgress(display_of("colour", None), 10)
    journal = Journal(output, task.result_schema)
    committer: Any = NewParts(journal=journal, source=None, run={})  # type: ignore[arg-type]
    return Driver(
        config=config,
        task=task,
        source=None,  # type: ignore[arg-type]
        committer=committer,
        backend=FAKE,
        placement=PLACEMENT,
        progress=progress,
        logs=EngineLogs(),
        shutdown=Shutdown(1, progress),
        collector=Collector(),
        metrics=RunMetrics(RunLabels(run="r", task="colour"), 10),
    )


def receipt(*positions: int, failed: Collection[int] = (), **fields: Any) -> dict[str, Any]:
    empty = dict.fromkeys(("error", "model_class", "engine_ready", "fault", "ends_run", "is_users"))
    rows = {"positions": [*positions], "same_as": [None] * len(positions)}
    rows |= {"outcomes": ["refused" if at in failed else "ok" for at in positions]}
    rows |= {"prompt_tokens": 0, "output_tokens": 0}
    nothing = {"kept": False, "reasons": [], "measures": Measures().packed()}
    return {"unit": "u", **rows, **nothing, **empty, **fields}


def test_a_fault_after_a_units_completion_is_nothing(
    output: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block that is tried again may find the file gone after the first try has read it."""
    driver, ledger = driver_of(output), Ledger([Work(unit(id="u", stop=2))], {})
    committed: list[Work] = []
    monkeypatch.setattr(driver._commits, "start", committed.append)
    driver._take(receipt(0, 1), ledger)
    driver._take(receipt(fault="f rows 0-2 cannot be read", ends_run=False), ledger)
    assert len(committed) == 1
    driver._check_complete()


def test_a_unit_that_cannot_be_read_is_told_at_the_end(output: Location) -> None:
    driver, ledger = driver_of(output), Ledger([Work(unit(id="u", stop=2))], {})
    for _ in range(2):
        driver._take(receipt(fault="f rows 0-2 cannot be read", ends_run=False), ledger)
    assert ledger.work() == []
    with pytest.raises(
        RunError, match="all others are finished: f rows 0-2 cannot be read\nRepair"
    ):
        driver._check_complete()


def test_rows_that_equal_a_failed_one_count_as_failures(output: Location) -> None:
    ledger = Ledger([Work(unit(id="u", stop=1000))], {})
    driver = driver_of(output)
    driver._take(receipt(0, failed=[0], reasons=["decode_error"], error="decode: broken"), ledger)
    same = range(1, 500)
    with pytest.raises(
        ErrorRateError, match=r"all 500 rows so far failed.*; the last: decode: brok"
    ):
        driver._take(receipt(*same, same_as=[0] * len(same)), ledger)


def test_rows_count_once_though_a_commit_found_no_journal_of_them(
    output: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = driver_of(output)
    begun: list[Work] = []

    def stream(ledger: Ledger, _: object) -> None:
        for work in ledger.work():
            driver._take(receipt(*work.missing, failed=[0]), ledger)

    def start(work: Work) -> None:
        begun.append(work)
        if len(begun) == 1:
            driver._commits.failed["u"] = (work, "its journal lacks rows")

    monkeypatch.setattr(driver, "_stream", stream)
    monkeypatch.setattr(driver._commits, "start", start)
    driver.drive([Work(unit(id="u", stop=3))])
    assert [work.rows for work in begun] == [3, 3]
    facts = driver._progress.facts()
    assert (driver.rows, facts.done, facts.outcomes) == (3, 3, {"ok": 2, "refused": 1})


def test_rows_that_were_kept_do_not_hide_that_all_others_fail(output: Location) -> None:
    ledger = Ledger([Work(unit(id="u", stop=2000))], {})
    driver = driver_of(output)
    driver._take(receipt(*range(1000), kept=True), ledger)
    assert driver.rows == 1000
    failed = range(1000, 1200)
    with pytest.raises(ErrorRateError, match="all 200 rows so far failed"):
        driver._take(receipt(*failed, failed=[*failed], reasons=["x"], error="x"), ledger)


def test_what_an_earlier_run_left_in_the_journal_does_not_count(output: Location) -> None:
    work = Work(unit(id="u", stop=1000))
    driver = driver_of(output, max_error_rate=0.1)
    ledger = Ledger([work], {"u": dict.fromkeys(range(700), "engine_error")})
    driver._take(receipt(*range(700, 950), failed=[700], error="x"), ledger)
    assert driver.rows == 250
    with pytest.raises(ErrorRateError, match="41 of 290 rows failed"):
        driver._take(receipt(*range(950, 990), failed=[*range(950, 990)], error="x"), ledger)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_commit_that_finds_no_space_ends_the_run(
    output: Location, source: Input, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def full(*_: object) -> bool:
        raise OSError(number, "it is full")

    fill(journal_in(output), source.units[0])
    monkeypatch.setattr(parts_module, "create_from", full)
    committer, work = new_parts(output, source), Work(source.units[0])
    fault = commit_or_fault(committer, work)
    assert isinstance(fault, Fault)
    assert fault.ends_run
    assert fault.message.startswith(f"OUTPUT {output} cannot be written to: OSError: ")
    assert not output.names("part-")
    monkeypatch.undo()
    assert not isinstance(commit_or_fault(committer, work), Fault)  # it can be finished later


def test_a_commit_that_cannot_read_the_input_stops_only_its_unit(
    output: Location, source: Input
) -> None:
    fill(journal_in(output), source.units[0])
    source.source.root.fs.rm(source.source.root.path, recursive=True)
    fault = commit_or_fault(new_parts(output, source), Work(source.units[0]))
    assert isinstance(fault, Fault)
    assert not fault.ends_run
    assert "a.parquet" in fault.message
