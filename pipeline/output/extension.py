"""The next file of a plan: units of input files that are new, changed or gone.

Units that exist keep their place. The units of a changed input file take over the parts of its old
units, and old units beyond those are dropped. Units that are not committed and none of whose input
files is in the input any more are dropped as well: nobody could finish them. Each of their files,
and each image that is gone from a unit which is cut again, gets an entry that says so, in a unit
without rows, so that a file that comes back is planned again.

Where a run does not take all rows of its input, units have only those that it takes. Files without
any have an entry too; but where a number of rows is given (`Selection.is_bounded`), further files
are not looked at.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from pipeline.contract.errors import UserError
from pipeline.output.comparison import Changes, compare
from pipeline.output.parts import PARQUET
from pipeline.output.pieces import of_new_files, taken_away
from pipeline.output.plan import Plan, open_plan, plan_folder
from pipeline.output.plan_file import save, suffix_of
from pipeline.output.recut import Recut
from pipeline.sources import ALL_ROWS
from pipeline.storage.file_table import FileTableWriter

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np

    from pipeline.output.pieces import Piece
    from pipeline.sources import Listing, Selection, Source
    from pipeline.sources.units import Cut
    from pipeline.storage.location import Location


def extended(
    plan: Plan | None,
    output: Location,
    listing: Listing,
    source: Source,
    changes: Changes | None = None,
    selection: Selection = ALL_ROWS,
    *,
    suffix: str = PARQUET,
) -> Plan:
    """Add the input's new and changed files to a plan, and save that.

    Args:
        plan: The plan so far; None if there is none.
        output: OUTPUT.
        listing: The input as it is now.
        source: What cuts it; its columns are those of new and changed files too.
        changes: The input against the plan, if it was compared already (`changes_of`).
        selection: Which rows of the input are planned.
        suffix: That of the parts' format, where there is no plan yet; a plan's parts keep theirs.

    Returns:
        The plan of the whole input; the same one if no file is new or changed.

    Raises:
        UserError: A new file cannot be read, or its columns differ; or no row is selected.
        OSError: OUTPUT cannot be read or written.
    """
    while True:
        dropped: list[int] = []
        if plan is None:
            pieces = _with_any(of_new_files(listing.files, source, selection), selection, listing)
        else:
            if changes is None:
                changes = changes_of(plan, listing, selection)
                source = _extended_source(source, plan, changes)
            if not changes:
                return plan
            recut = Recut(plan, changes, source, selection)
            dropped = recut.dropped
            new = of_new_files(changes.new, source, selection, plan.total_rows)
            pieces = itertools.chain(recut.pieces(), new)
        named = suffix_of(plan) if plan else suffix
        is_ours = save(output, plan, source.schema, pieces, dropped, listing.commit, named)
        if not is_ours and plan is None and not plan_folder(output).names():
            raise UserError(f"OUTPUT {output} keeps no plan; is its store writable?")
        plan, changes = open_plan(output), None
        assert plan is not None, "a plan was just created, by us or by another driver"
        if is_ours:
            return plan


def rows_left(
    plan: Plan,
    is_committed: np.ndarray,
    source: Source,
    changes: Changes,
    selection: Selection = ALL_ROWS,
) -> Iterator[Cut]:
    """What a run would have to compute once `extended` and `without_gone` have saved their plans.

    Nothing is written.

    Args:
        plan: The plan so far.
        is_committed: [units] bool, see `counts.committed_units`.
        source: What cuts the input; its columns are those of new and changed files too.
        changes: The input against the plan.
        selection: Which rows of the input are planned.

    Raises:
        UserError: A new file cannot be read, or its columns differ.
        OSError: OUTPUT or the input cannot be read.
    """
    recut = Recut(plan, changes, source, selection)
    pieces = [*recut.pieces()]
    taken_over = {old.index for _, _, old in pieces if old is not None}
    obsolete = {*taken_over, *recut.dropped, *_lost(plan, is_committed, changes.gone)}
    pending = (int(index) for index in plan.pending(is_committed))
    yield from (plan.unit(index) for index in pending if index not in obsolete)
    yield from (cut for cut, _, _ in pieces if cut.rows)
    yield from selection.cuts(source, changes.new, plan.total_rows)


def changes_of(plan: Plan, listing: Listing, selection: Selection = ALL_ROWS) -> Changes:
    """What has changed in an input since it was planned, as far as the selection takes it in.

    Args:
        plan: The plan.
        listing: The input as it is now.
        selection: Which rows of the input are planned.

    Raises:
        UserError: A file has changed of which a given number of rows was taken.
        OSError: The plan or the input cannot be read.
    """
    changes = compare(plan, listing)
    if not selection.is_bounded:
        return changes
    if changes.changed:
        changes = _as_new(plan, listing, changes)
    is_closed = selection.left(plan.total_rows) == 0
    return replace(changes, new=changes.new[:0]) if is_closed else changes


def _as_new(plan: Plan, listing: Listing, changes: Changes) -> Changes:
    """The same, with the changed files among the new ones, as no row of them is planned.

    Raises:
        UserError: Rows of one are.
    """
    paths = pa.array([file.path for file in changes.changed], pa.string())
    for index, _ in plan.units_of(paths):
        unit = plan.unit(index)
        if unit.rows:
            changed = next(path for path in unit.files if path in paths.to_pylist())
            raise UserError(
                f"OUTPUT {plan.output} holds a limited number of rows of INPUT, and {changed} has "
                "changed since they were taken; name a new folder"
            )
    wanted = {file.path for file in (*changes.new, *changes.changed)}
    with FileTableWriter() as writer:
        for file in listing.files:
            if file.path in wanted:
                writer.add(file)
        return replace(changes, new=writer.table(), changed=changes.changed[:0])


def _extended_source(source: Source, plan: Plan, changes: Changes) -> Source:
    """The source with the columns of the plan, of new and of changed files. Raises UserError."""
    return (
        source.with_schema(plan.schema)
        .with_columns_of(changes.new)
        .with_columns_of(changes.changed)
    )


def without_gone(
    plan: Plan, is_committed: np.ndarray, gone: pa.ChunkedArray
) -> tuple[Plan, list[str]]:
    """Drop units that are not committed and whose input files are all gone, and save that.

    Args:
        plan: The plan.
        is_committed: [units] bool, see `counts.committed_units`.
        gone: [files] string, paths of planned files that are not in the input.

    Returns:
        The plan without them, and the paths of their files.

    Raises:
        OSError: OUTPUT cannot be read or written.
    """
    found = _lost(plan, is_committed, gone)
    paths = sorted({path for index in found for path in plan.unit(index).files})
    if not found:
        return plan, []
    pieces = map(taken_away, paths)
    save(plan.output, plan, plan.schema, pieces, found, plan.commit, suffix_of(plan))
    newer = open_plan(plan.output)
    assert newer is not None, "it was extended"
    # Unless another run was faster; then the next one drops them.
    return newer, [] if newer.is_live[found].any() else paths


def _lost(plan: Plan, is_committed: np.ndarray, gone: pa.ChunkedArray) -> list[int]:
    """Indices of the units that are not committed and whose files are all gone."""
    if not len(gone):
        return []
    pending = {*plan.pending(is_committed).tolist()}
    return [index for index, is_all in plan.units_of(gone) if is_all and index in pending]


def _with_any(pieces: Iterable[Piece], selection: Selection, listing: Listing) -> Iterator[Piece]:
    """The pieces. Raises UserError where a condition leaves no row."""
    rows = 0
    for piece in pieces:
        rows += piece[0].rows
        yield piece
    if not rows and selection.condition is not None:
        raise UserError(f"where: no row of INPUT {listing.root} matches")
