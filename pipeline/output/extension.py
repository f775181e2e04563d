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
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.contract.errors import UserError
from pipeline.output.comparison import TAKEN_AWAY, Changes, compare
from pipeline.output.parts import PARQUET, part_name
from pipeline.output.plan import UNITS, Plan, open_plan, plan_folder, plan_metadata
from pipeline.sources import ALL_ROWS, ROW_A_FILE
from pipeline.sources.units import Cut, Unit, unit_id
from pipeline.storage.atomic import create_from, draft_for
from pipeline.storage.file_table import FileTableWriter
from pipeline.storage.fingerprint import fingerprints

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np

    from pipeline.sources import Listing, Selection, Source
    from pipeline.storage.location import FileInfo, Location

GROUP_UNITS = 1024
GROUP_FILES = 32_768
"""Most units, and about as many of their files, in a row group of a plan file: as many are read to
get one unit."""

Entry = dict[str, Any]
"""An input file as a plan has it: `path`, `size`, `stamp`, `tag`."""
Piece = tuple[Cut, list[Entry], Unit | None]
"""A unit that is planned: its rows, its files, and the unit whose part it takes over."""


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
            pieces = _with_any(_new(listing.files, source, selection), selection, listing)
        else:
            if changes is None:
                changes = changes_of(plan, listing, selection)
                source = _extended_source(source, plan, changes)
            if not changes:
                return plan
            recut = _Recut(plan, changes, source, selection)
            dropped = recut.dropped
            new = _new(changes.new, source, selection, plan.total_rows)
            pieces = itertools.chain(recut.pieces(), new)
        named = _suffix(plan) if plan else suffix
        is_ours = _save(output, plan, source.schema, pieces, dropped, listing.commit, named)
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
    recut = _Recut(plan, changes, source, selection)
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
    pieces = map(_taken_away, paths)
    is_ours = _save(plan.output, plan, plan.schema, pieces, found, plan.commit, _suffix(plan))
    newer = open_plan(plan.output)
    assert newer is not None, "it was extended"
    return newer, paths if is_ours else []  # the next run drops them, if another one was faster


def _lost(plan: Plan, is_committed: np.ndarray, gone: pa.ChunkedArray) -> list[int]:
    """Indices of the units that are not committed and whose files are all gone."""
    if not len(gone):
        return []
    pending = {*plan.pending(is_committed).tolist()}
    return [index for index, is_all in plan.units_of(gone) if is_all and index in pending]


def _save(
    output: Location,
    plan: Plan | None,
    schema: pa.Schema,
    pieces: Iterable[Piece],
    dropped: list[int],
    commit: str | None,
    suffix: str,
) -> bool:
    """Write the next plan file. Returns whether this call did; if not, another driver was faster.

    Args:
        output: OUTPUT.
        plan: The plan so far.
        schema: The input's columns.
        pieces: The units to add.
        dropped: Indices of units that are obsolete; complete once all pieces were taken. Those of
            pieces that only say that a file was taken away are added.
        commit: The commit of the input's repository, if it lies in one.
        suffix: That of the parts' format.
    """
    number, first = (len(plan.files), len(plan)) if plan else (0, 0)
    where = plan_folder(output) / f"{number:06d}.parquet"
    rows = _rows(pieces, first, suffix, dropped)
    with draft_for(where) as draft:
        with pq.ParquetWriter(draft, UNITS, store_schema=False) as writer:
            for group in _groups(rows):
                writer.write_table(pa.Table.from_pylist(group, schema=UNITS))
            writer.add_key_value_metadata(plan_metadata(schema, dropped, commit))
        return create_from(draft, where)


def _rows(
    pieces: Iterable[Piece], first: int, suffix: str, dropped: list[int]
) -> Iterator[dict[str, Any]]:
    """What a plan file says of pieces; those of files that were taken away are dropped at once."""
    for index, (cut, files, old) in enumerate(pieces, first):
        if not cut.rows and files[0]["tag"] == TAKEN_AWAY:
            dropped.append(index)
        yield _row(index, cut, files, old, suffix)


def _row(index: int, cut: Cut, files: list[Entry], old: Unit | None, suffix: str) -> dict[str, Any]:
    """What a plan file says of a piece, a row of `UNITS`."""
    name = _id_of(cut, files)
    return {
        "id": name,
        "part": old.part if old else part_name(index, name, suffix),
        "start": cut.start,
        "stop": cut.stop,
        "offset": cut.offset,
        "replaces": old.index if old else None,
        "files": files,
        "taken": cut.taken,
        "rows": None if cut.taken is None else cut.rows,
    }


def _suffix(plan: Plan) -> str:
    """That of the parts of a plan, which all have one format."""
    return os.path.splitext(plan.unit(0).part)[1]


def _id_of(cut: Cut, files: Iterable[Entry]) -> str:
    contents = [(file["path"], file["size"], file["tag"]) for file in files]
    return unit_id(contents, cut.start, cut.stop, cut.taken)


def _groups(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    group: list[dict[str, Any]] = []
    files = 0
    for row in rows:
        group.append(row)
        files += len(row["files"])
        if len(group) == GROUP_UNITS or files >= GROUP_FILES:
            yield group
            group, files = [], 0
    if group:
        yield group


def _entries(root: Location, files: Sequence[FileInfo]) -> Iterator[Entry]:
    """The files as a plan has them, one after the other."""
    for file, tag in zip(files, fingerprints(root, files), strict=True):
        yield {"path": file.path, "size": file.size, "stamp": file.stamp, "tag": tag}


def _empty(entry: Entry) -> Piece:
    """A piece without rows, so that a file without rows counts as planned."""
    return Cut(files=(entry["path"],), start=0, stop=0), [entry], None


def _taken_away(path: str) -> Piece:
    """A piece that says that no unit has this file any more: it is planned once it is back."""
    return _empty({"path": path, "size": -1, "stamp": "", "tag": TAKEN_AWAY})


def _new(
    files: Sequence[FileInfo], source: Source, selection: Selection, planned: int = 0
) -> Iterator[Piece]:
    """The pieces of files that no unit has; they come in the files' order.

    Args:
        files: The files.
        source: What cuts them.
        selection: Which of their rows are planned.
        planned: Rows that are planned already.
    """
    cuts: Iterable[Cut] = selection.cuts(source, files, planned)
    if selection.sample is not None:
        cuts = [*cuts]
        files = _files_of(cuts, files)
    if not files:
        return
    entries = _entries(source.root, files)
    entry, is_used = next(entries), False
    for cut in cuts:
        taken = []
        for path in cut.files:
            while entry["path"] != path:
                if not is_used:
                    yield _empty(entry)
                entry, is_used = next(entries), False
            taken.append(entry)
            is_used = True
        yield cut, taken, None
        planned += cut.rows
    if selection.left(planned) == 0:
        return  # further files are not looked at
    rest = entries if is_used else itertools.chain([entry], entries)
    yield from map(_empty, rest)


def _files_of(cuts: Iterable[Cut], files: Iterable[FileInfo]) -> list[FileInfo]:
    paths = {path for cut in cuts for path in cut.files}
    return [file for file in files if file.path in paths]


def _with_any(pieces: Iterable[Piece], selection: Selection, listing: Listing) -> Iterator[Piece]:
    """The pieces. Raises UserError where a condition leaves no row."""
    rows = 0
    for piece in pieces:
        rows += piece[0].rows
        yield piece
    if not rows and selection.condition is not None:
        raise UserError(f"where: no row of INPUT {listing.root} matches")


class _Recut:
    """The pieces of files that have changed, or that were gone and are back.

    Attributes:
        dropped: Indices of old units whose parts no piece takes over; complete at the end.
    """

    def __init__(self, plan: Plan, changes: Changes, source: Source, selection: Selection) -> None:
        self.dropped: list[int] = []
        self._selection = selection
        self._plan = plan
        self._source = source
        self._changes = changes
        self._files = {file.path: file for file in changes.changed}
        entries = _entries(source.root, changes.changed)
        self._entries = {entry["path"]: entry for entry in entries}

    def pieces(self) -> Iterator[Piece]:
        """The pieces, each with the unit whose part it takes over, if any."""
        if not self._files:
            return
        touched = self._plan.units_of(pa.array(self._files, pa.string()))
        old = (self._plan.unit(index) for index, _ in touched)
        yield from self._of_images(old) if self._source.kind in ROW_A_FILE else self._of_rows(old)

    def _of_images(self, old: Iterable[Unit]) -> Iterator[Piece]:
        """Old units without the images that are gone; and images that no unit has any more."""
        gone = set(self._changes.gone.to_pylist())
        back = dict(self._files)
        for unit in old:
            if not unit.rows:  # of an image that was not taken
                continue
            planned = self._plan.entry(unit.index)["files"]
            files = [self._entries.get(f["path"], f) for f in planned if f["path"] not in gone]
            paths = tuple(file["path"] for file in files)
            for path in paths:
                back.pop(path, None)
            yield Cut(files=paths, start=0, stop=len(paths)), files, unit
            yield from (_taken_away(f["path"]) for f in planned if f["path"] in gone)
        yield from _new([*back.values()], self._source, self._selection)

    def _of_rows(self, old: Iterable[Unit]) -> Iterator[Piece]:
        """Each file anew; units that are the same as before stay."""
        olds: dict[str, list[Unit]] = {}
        for unit in old:
            olds.setdefault(unit.files[0], []).append(unit)
        for path, file in sorted(self._files.items()):
            entry = self._entries[path]
            found = self._selection.cuts(self._source, [file])
            cuts = {_id_of(cut, [entry]): cut for cut in found}
            obsolete = [unit for unit in olds.get(path, ()) if unit.id not in cuts]
            kept = {unit.id for unit in olds.get(path, ())}
            new = [cut for name, cut in cuts.items() if name not in kept]
            for cut, unit in itertools.zip_longest(new, obsolete[: len(new)]):
                yield cut, [entry], unit
            if not new:
                yield _empty(entry)
            self.dropped.extend(unit.index for unit in obsolete[len(new) :])
