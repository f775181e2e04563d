"""Do failed rows of a run again, and put what comes of them in the place of the old ones.

The parts stay whole at every moment: a unit's rows are computed into a journal of their own; then
its part is replaced by one that differs in these rows alone, if nobody else has changed it since.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.contract.errors import RunError, UserError
from pipeline.contract.record import Outcome
from pipeline.engine.vllm_engine import VLLM
from pipeline.execution.cluster import cluster
from pipeline.execution.driver import Driver
from pipeline.execution.ledger import Work
from pipeline.execution.progress import RunProgress
from pipeline.output.counts import committed_units, forget_counts
from pipeline.output.fencing import begin_epoch
from pipeline.output.journal import (
    METADATA_KEY,
    Committed,
    Journal,
    count_outcomes,
    metadata,
    write_part,
)
from pipeline.run import placed, prepare, summary
from pipeline.storage.atomic import draft_for, replace_from

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from rich.console import Console

    from pipeline.contract.config import RunConfig
    from pipeline.contract.task import Task
    from pipeline.engine.interface import Backend
    from pipeline.output.plan import Plan
    from pipeline.run import RunResult
    from pipeline.sources import Source

ROOM = "retry"
"""Where the journal of a retry is, apart from that of runs."""


def retry(
    config: RunConfig,
    task: Task,
    outcomes: Collection[str],
    *,
    backend: Backend = VLLM,
    console: Console | None = None,
    debug: bool = False,
) -> RunResult:
    """Do the rows of an OUTPUT that have one of these outcomes again.

    Args:
        config: As for the run that made OUTPUT; what decides results must not differ.
        task: The same.
        outcomes: Names of outcomes.
        backend: What renders and generates.
        console: Where progress is shown; None shows none.
        debug: Show what Ray and the workers print.

    Raises:
        UserError: OUTPUT is not the run's, or an outcome has no such name.
        RunError: The rows could not all be finished; those that were are in place.
    """
    began = time.monotonic()
    wanted = parse_outcomes(outcomes)
    prepared = prepare(config, task)
    if prepared.plan is None:
        raise UserError(f"OUTPUT {prepared.output} has no results to fix; run the job first")
    parts = Journal(prepared.output, task.result_schema, prepared.record)
    work = list(failed_work(prepared.plan, parts, wanted))
    if not work:
        return summary(prepared, None, time.monotonic() - began)
    begin_epoch(prepared.output)
    forget_counts(prepared.output)
    total = sum(piece.rows for piece in work)
    with cluster(debug=debug), RunProgress(task.name, total, console) as progress:
        driver = Driver(
            config=prepared.config.model_copy(update={"max_error_rate": None}),
            task=task,
            source=prepared.source,
            journal=Journal(prepared.output, task.result_schema, prepared.record, room=ROOM),
            commit=patch,
            is_done=lambda _: False,
            backend=backend,
            placement=placed(prepared.config, backend),
            progress=progress,
        )
        driver.drive(work)
        return summary(prepared, driver, time.monotonic() - began)


def failed_work(plan: Plan, journal: Journal, outcomes: Collection[Outcome]) -> Iterator[Work]:
    """The rows of all parts that have one of these outcomes, in input order."""
    wanted = pa.array([str(outcome) for outcome in outcomes], pa.string())
    committed = committed_units(plan, journal)
    for index in np.flatnonzero(committed & plan.is_live):
        unit = plan.unit(int(index))
        found = journal.committed(unit.part)
        if found is None or not set(found.outcomes) & set(wanted.to_pylist()):
            continue
        with (journal.output / unit.part).open() as file:
            column = pq.read_table(file, columns=["outcome"])["outcome"]
        positions = pc.indices_nonzero(pc.is_in(column, value_set=wanted)).to_pylist()
        if positions:
            yield Work(unit, tuple(positions))


def parse_outcomes(names: Collection[str]) -> list[Outcome]:
    """Outcomes by name. Raises UserError for one that there is not, or that has results."""
    failures = [outcome for outcome in Outcome if outcome is not Outcome.OK]
    for name in names:
        if name not in failures:
            raise UserError(f"outcome '{name}': should be one of {', '.join(failures)}")
    return [Outcome(name) for name in names]


def patch(journal: Journal, work: Work, _: Source) -> Committed:
    """Put a unit's rows from the retry's journal into its part.

    Raises:
        RunError: Rows are missing, or the part is gone.
    """
    part = journal.output / work.unit.part
    while True:
        try:
            stamp, body = part.info().stamp, part.read()
        except FileNotFoundError:
            raise RunError(f"{part} is gone; run the job again") from None
        entries = journal.entries(work.unit.id)
        missing = set(work.missing) - set(entries["position"].to_pylist())
        if missing:
            raise RunError(f"{work.unit.name}: {len(missing)} rows were not finished")
        with draft_for(part) as draft:
            committed = _write_patched(draft, body, entries, journal)
            if replace_from(draft, part, stamp):
                journal.forget(work.unit.id)
                return committed


def _write_patched(draft: str, body: bytes, entries: pa.Table, journal: Journal) -> Committed:
    old = pq.read_table(pa.BufferReader(body))
    kept = json.loads(old.schema.metadata[METADATA_KEY])
    table = _patched(old, entries)
    outcomes = count_outcomes(table)
    own = metadata(journal.run, kept["unit"], outcomes, kept["duplicates"])
    schema = old.schema.with_metadata({**old.schema.metadata, METADATA_KEY: own})
    write_part(draft, schema, [table.cast(schema)])
    return Committed(
        unit_id=kept["unit"]["id"],
        rows=table.num_rows,
        outcomes=outcomes,
        duplicates=kept["duplicates"],
        by_us=True,
    )


def _patched(old: pa.Table, entries: pa.Table) -> pa.Table:
    """The table with the entries' columns in the entries' rows."""
    positions = entries["position"].to_numpy()
    where = np.arange(old.num_rows)
    where[positions] = old.num_rows + np.arange(len(positions))
    columns: dict[str, Any] = {}
    for field in old.schema:
        column = old[field.name]
        if field.name in entries.column_names:
            both = pa.chunked_array([*column.chunks, *entries[field.name].cast(field.type).chunks])
            column = both.take(pa.array(where))
        columns[field.name] = column
    return pa.table(columns, schema=old.schema)
