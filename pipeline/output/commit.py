"""The two ways to commit the rows of a unit: as a new part, or into the part that exists.

    NewParts        a run: a unit's part is made from its journal and the input's own columns
    PatchedParts    a retry: in an existing part, the rows that were computed again are replaced

Both may be repeated and raced: a part is created only if there is none, and replaced only if it is
of the unit that is to be replaced and has not changed since it was read. What a part is as a file,
`parts` knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contract.errors import RunError
from pipeline.contract.record import Outcome, answer_column, output_schema, row_key
from pipeline.output.journal import have_results
from pipeline.output.parts import (
    Committed,
    commit_record,
    committed_of,
    read_committed,
    read_whole_part,
    save_part,
)
from pipeline.sources import ROW_A_FILE, passthrough_taken
from pipeline.storage.fingerprint import is_still

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.output.journal import Journal
    from pipeline.output.run_record import Record
    from pipeline.sources import Source
    from pipeline.sources.units import Unit, Work
    from pipeline.storage.location import Location

TRIES = 10
"""Attempts at one commit. Each one that fails is another driver's success, unless the store refuses
every condition."""


class Committer(Protocol):
    """A way to commit. It pickles: commits run in other processes."""

    @property
    def journal(self) -> Journal:
        """Where the rows to commit are."""
        ...

    def commit(self, work: Work) -> Committed:
        """Commit a unit's rows, all of which are in the journal; then forget them there.

        Raises:
            RunError: Rows are missing, or the input or the part is not what it was.
            OSError, pa.ArrowException: The store or the input cannot be read or written.
        """
        ...

    def is_committed(self, work: Work) -> bool:
        """Whether another driver has committed this work already. Raises OSError."""
        ...


@dataclass(frozen=True, kw_only=True)
class NewParts:
    """Makes parts from journals. The part's existence is the commit.

    A unit that takes over the part of obsolete ones replaces it, and only theirs: if another driver
    is faster, or has a newer plan, its part stays.

    Attributes:
        journal: The run's journal.
        source: Where the input's own columns are read.
        run: The run's record, kept in every part.
        prefix: What the names of the columns that it adds begin with.
        merged: The input's column that is one with a result column; None if there is none. Rows
            that were kept have its values in that.
    """

    journal: Journal
    source: Source
    run: Record
    prefix: str = ""
    merged: str | None = None

    def commit(self, work: Work) -> Committed:
        """See `Committer.commit`, which says what it raises."""
        unit, part = work.unit, self.journal.output / work.unit.part
        for _ in range(TRIES):
            found = read_committed(part)
            if found is not None and not _is_obsolete(found, unit):
                self.journal.forget(unit.id)
                return found
            self._save(unit, part, replaces=None if found is None else found.stamp)
        raise RunError(_refused(part))

    def _is_as_planned(self, unit: Unit) -> bool:
        """Whether the columns that are passed through are of the file that was computed."""
        if self.source.kind in ROW_A_FILE:  # its rows are paths
            return True
        return is_still(self.source.root / unit.files[0], unit.size, unit.tag)

    def is_committed(self, work: Work) -> bool:
        """See `Committer.is_committed`."""
        found = read_committed(self.journal.output / work.unit.part)
        return found is not None and found.unit_id == work.unit.id

    def _save(self, unit: Unit, part: Location, *, replaces: str | None) -> None:
        entries = self.journal.entries(unit.id)
        if entries.num_rows != unit.rows:
            raise RunError(f"{unit.name}: {entries.num_rows} of its {unit.rows} rows were finished")
        ends = unit.files if len(unit.files) == 1 else (unit.files[0], unit.files[-1])
        identity = {"id": unit.id, "index": unit.index, "files": ends}
        identity |= {"start": unit.start, "stop": unit.stop}
        duplicates = entries.num_rows - entries["same_as"].null_count
        answer = answer_column(self.journal.results)
        answer = answer and f"{self.prefix}{answer}"
        outcomes = _outcomes(entries["outcome"])
        record = commit_record(self.run, identity, outcomes, duplicates, answer)
        passthrough = self.source.passthrough_schema
        schema = output_schema(passthrough, self.journal.results, self.prefix, self.merged)
        added = _added(_with_keys(entries, unit), self.prefix)
        rows = self._joined(unit, added, schema)
        save_part(part, schema, rows, record, replaces=replaces)

    def _joined(self, unit: Unit, added: pa.Table, schema: pa.Schema) -> Iterator[pa.Table]:
        """The unit's output rows in input order: the input's own columns beside the added ones.

        Raises:
            RunError: The input is another one by now: its columns are not of the computed rows.
        """
        done = 0
        for own in passthrough_taken(self.source, unit):
            rows = added.slice(done, own.num_rows)
            if rows.num_rows != own.num_rows:
                break
            columns: dict[str, Any] = {
                **dict(zip(own.column_names, own.columns, strict=True)),
                **dict(zip(rows.column_names, rows.columns, strict=True)),
            }
            if self.merged is not None:
                is_kept = pc.equal(rows[f"{self.prefix}outcome"], str(Outcome.KEPT))
                old = own[self.merged].cast(schema.field(self.merged).type)
                columns[self.merged] = pc.if_else(is_kept, old, rows[self.merged])
            yield pa.table([columns[name] for name in schema.names], schema=schema)
            done += own.num_rows
        if done != unit.rows or not self._is_as_planned(unit):
            raise RunError(f"{unit.name} changed while it was read; run again")


@dataclass(frozen=True, kw_only=True)
class PatchedParts:
    """Replaces rows of parts that exist. A reader sees the old part or the new one.

    Attributes:
        journal: The retry's journal, apart from that of runs.
        run: The retry's record, kept in the parts it changes.
        prefix: What the names of the columns that the run added begin with.
    """

    journal: Journal
    run: Record
    prefix: str = ""

    def commit(self, work: Work) -> Committed:
        """See `Committer.commit`, which says what it raises."""
        part = self.journal.output / work.unit.part
        for _ in range(TRIES):
            try:
                stamp = part.info().stamp
                old, was = read_whole_part(part)
            except FileNotFoundError:
                raise RunError(f"{part} is gone; run the job again") from None
            if was["unit"]["id"] != work.unit.id:
                raise RunError(f"{part} was replaced, as its input has changed; retry again")
            entries = self.journal.entries(work.unit.id)
            missing = set(work.missing) - set(entries["position"].to_pylist())
            if missing:
                raise RunError(f"{work.unit.name}: {len(missing)} rows were not finished")
            entries = self._without_losses(old, entries)
            rows = _patched(old, entries["position"], _added(entries, self.prefix))
            outcomes = _outcomes(rows[f"{self.prefix}outcome"])
            record = commit_record(
                self.run, was["unit"], outcomes, was["duplicates"], was.get("answer")
            )
            if save_part(part, rows.schema, [rows], record, replaces=stamp):
                self.journal.forget(work.unit.id)
                return read_committed(part) or committed_of(record, "")
        raise RunError(_refused(part))

    def is_committed(self, work: Work) -> bool:
        """Never: a part does not tell whether its rows were computed again."""
        return False

    def _without_losses(self, old: pa.Table, entries: pa.Table) -> pa.Table:
        """Entries but the failures of rows that have results by now, or more results than these.

        Another retry may have been faster. And a row that failed in one of its results, say one of
        its languages, keeps the others where it fails as a whole now, say as its link is dead.

        Args:
            old: The part.
            entries: See `Journal.entries`.
        """
        results = self.journal.results.names
        outcome, *columns = (f"{self.prefix}{name}" for name in ("outcome", *results))
        there = old.select([outcome, *columns]).take(entries["position"])
        is_good = have_results(entries["outcome"])
        was_good = have_results(there[outcome])
        has_fewer = pc.less(_filled(entries.select(results)), _filled(there.select(columns)))
        return entries.filter(pc.or_(is_good, pc.invert(pc.or_(was_good, has_fewer))))


def _is_obsolete(found: Committed, unit: Unit) -> bool:
    """Whether a part is of a unit that this one replaces.

    An input may change and change back: a later unit then has the id of an earlier one.
    """
    is_ancestor = found.unit_id != unit.id and found.unit_id in unit.ancestors
    return is_ancestor and (found.index is None or found.index < unit.index)


def _refused(part: Location) -> str:
    return f"{part} could not be replaced: its store refused the condition {TRIES} times"


def _outcomes(outcomes: pa.ChunkedArray) -> dict[str, int]:
    """Rows by outcome."""
    counted = pc.value_counts(outcomes)
    return {item["values"].as_py(): item["counts"].as_py() for item in counted}


def _added(entries: pa.Table, prefix: str) -> pa.Table:
    """What entries add to the input's columns, called as in parts."""
    added = entries.drop_columns(["position", "same_as"])
    return added.rename_columns([f"{prefix}{name}" for name in added.column_names])


def _with_keys(entries: pa.Table, unit: Unit) -> pa.Table:
    keys = [row_key(unit.id, position) for position in entries["position"].to_pylist()]
    return entries.append_column("row_key", pa.array(keys, pa.string()))


def _filled(table: pa.Table) -> pa.Array:
    """[rows] int64: in how many columns a row has a value."""
    filled = np.zeros(table.num_rows, np.int64)
    for column in table.columns:
        filled += column.is_valid().to_numpy()
    return pa.array(filled)


def _patched(old: pa.Table, positions: pa.ChunkedArray, added: pa.Table) -> pa.Table:
    """The old rows, with the added columns replaced in the rows at these positions."""
    places = positions.to_numpy()
    taken = np.arange(old.num_rows)
    taken[places] = old.num_rows + np.arange(len(places))
    columns: dict[str, Any] = {}
    for field in old.schema:
        column = old[field.name]
        if field.name in added.column_names:
            both = pa.chunked_array([*column.chunks, *added[field.name].cast(field.type).chunks])
            column = both.take(pa.array(taken))
        columns[field.name] = column
    return pa.table(columns, schema=old.schema)
