"""Which units there are: saved before anything runs, extended when the input grows, never changed.

A plan is a sequence of files, `OUTPUT/_gemma3_batch/plan/<number>.parquet`. Each is created only if
it does not exist, so drivers that start at once agree. A later file has units only of input files
that are new or changed, so finished units keep their place. The units of a changed input file take
over the parts of its old units (`Unit.replaces`); old units beyond those are dropped.

Memory holds a few numbers for each unit; the units themselves are read when they are needed.
"""

from __future__ import annotations

import functools
import itertools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.contract.errors import UserError
from pipeline.output.parts import part_name
from pipeline.sources import Kind
from pipeline.sources.units import Cut, Unit, unit_id
from pipeline.storage.atomic import create_from, draft_for
from pipeline.storage.fingerprint import fingerprints
from pipeline.storage.location import INTERNAL, Location

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pipeline.sources import Listing, Source
    from pipeline.storage.location import FileInfo

FORMAT = 1
GROUP = 1024
"""Units in a row group of a plan file: as many are read to get one of them."""
METADATA_KEY = b"gemma3_batch_plan"
FILE = pa.struct(
    [("path", pa.string()), ("size", pa.int64()), ("stamp", pa.string()), ("tag", pa.string())]
)
UNITS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("part", pa.string(), nullable=False),
        pa.field("start", pa.int64(), nullable=False),
        pa.field("stop", pa.int64(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("replaces", pa.int64()),
        pa.field("files", pa.list_(FILE), nullable=False),
    ]
)

Covered = dict[str, tuple[int, str, str]]
"""Size, stamp and fingerprint of each planned input file, by path."""


@dataclass(frozen=True)
class PlanFile:
    """One file of a plan.

    Attributes:
        location: Where it is.
        first: Index of its first unit.
        count: Units in it.
    """

    location: Location
    first: int
    count: int


@dataclass(frozen=True)
class Plan:
    """All units of a run.

    Attributes:
        output: OUTPUT.
        files: Its files, oldest first.
        rows: [units] int64, rows of each unit.
        replaces: [units] int64, index of the unit whose part it takes over, -1 for none.
        is_live: [units] bool, False for a unit that a later plan file made obsolete.
        schema: The input's columns.
    """

    output: Location
    files: tuple[PlanFile, ...]
    rows: np.ndarray
    replaces: np.ndarray
    is_live: np.ndarray
    schema: pa.Schema

    def __len__(self) -> int:
        """All units, obsolete ones included."""
        return len(self.rows)

    @property
    def total_rows(self) -> int:
        """Rows of all live units."""
        return int(self.rows[self.is_live].sum())

    def unit(self, index: int) -> Unit:
        """One unit. Raises OSError."""
        file = next(file for file in self.files if index < file.first + file.count)
        group, row = divmod(index - file.first, GROUP)
        table = _read_group(file.location, group)
        return _unit(index, table.slice(row, 1).to_pylist()[0])

    def pending(self, is_committed: np.ndarray) -> np.ndarray:
        """[n] int64, indices of the units to compute, in input order.

        Args:
            is_committed: [units] bool, see `counts.committed_units`.
        """
        return np.flatnonzero(self.is_live & ~is_committed & (self.rows > 0))


def open_plan(output: Location) -> Plan | None:
    """The plan of an OUTPUT; None if there is none.

    Raises:
        UserError: It was made by a version with another format.
        OSError: It cannot be read.
    """
    folder = _folder(output)
    names = sorted(name for name in folder.names() if name.endswith(".parquet"))
    if not names:
        return None
    files, rows, replaces, dropped = [], [], [], []
    first = 0
    for name in names:
        with (folder / name).open() as file, pq.ParquetFile(file) as parquet:
            meta = _metadata(parquet, folder / name)
            table = parquet.read(columns=["start", "stop", "replaces"])
        files.append(PlanFile(folder / name, first, table.num_rows))
        start, stop, replaced = (
            column.fill_null(-1).to_numpy().astype(np.int64)
            for column in table.combine_chunks().columns
        )
        rows.append(stop - start)
        replaces.append(replaced)
        dropped.extend(meta["dropped"])
        first += table.num_rows
    taken = np.concatenate(replaces)
    is_live = np.ones(first, dtype=bool)
    is_live[taken[taken >= 0]] = False
    is_live[np.array(dropped, dtype=np.int64)] = False
    return Plan(output, tuple(files), np.concatenate(rows), taken, is_live, _schema(meta))


def extended(plan: Plan | None, output: Location, listing: Listing, source: Source) -> Plan:
    """Add the input's new and changed files to a plan, and save that.

    Args:
        plan: The plan so far; None if there is none.
        output: OUTPUT.
        listing: The input as it is now.
        source: What cuts it.

    Returns:
        The plan of the whole input; the same one if no file is new or changed.

    Raises:
        UserError: A new file cannot be read, or its columns differ.
        OSError: OUTPUT cannot be read or written.
    """
    while True:
        covered = _covered(plan) if plan else {}
        unplanned = [
            file
            for file in listing.files
            if file.path not in covered or not _is_unchanged(file, covered[file.path], listing.root)
        ]
        if plan is not None and not unplanned:
            return plan
        draft = _Draft(plan, covered, listing, source, unplanned)
        if not draft.save(output) and plan is None and not _folder(output).names():
            raise UserError(f"OUTPUT {output} keeps no plan; is its store writable?")
        plan = open_plan(output)
        assert plan is not None, "a plan was just created, by us or by another driver"


def dropped_parts(plan: Plan) -> list[str]:
    """Names of parts whose rows are no longer in the planned input. Raises OSError."""
    kept = {int(index) for index in plan.replaces if index >= 0}
    gone = (index for index in np.flatnonzero(~plan.is_live) if int(index) not in kept)
    return [plan.unit(int(index)).part for index in gone]


def is_same_input(plan: Plan, listing: Listing) -> bool:
    """Whether at least one planned file is in this input, unchanged. Raises OSError."""
    covered = _covered(plan)
    known = (file for file in listing.files if file.path in covered)
    return any(_is_unchanged(file, covered[file.path], listing.root) for file in known)


class _Draft:
    """The next plan file, before it is saved."""

    def __init__(
        self,
        plan: Plan | None,
        covered: Covered,
        listing: Listing,
        source: Source,
        unplanned: Sequence[FileInfo],
    ) -> None:
        self._plan = plan
        self._source = source
        self._first = len(plan) if plan else 0
        self._number = len(plan.files) if plan else 0
        self._schema = plan.schema if plan else source.schema
        tags = fingerprints(listing.root, unplanned)
        self._files: Covered = {
            f.path: (f.size, f.stamp, tag) for f, tag in zip(unplanned, tags, strict=True)
        }
        self._changed = {file.path for file in unplanned if file.path in covered}
        self._new = [file for file in unplanned if file.path not in covered]
        self._unplanned = {file.path: file for file in unplanned}
        self._covered = covered
        self._present = {file.path for file in listing.files} if self._changed else set()
        self._dropped: list[int] = []

    def save(self, output: Location) -> bool:
        """Write it. Returns whether this call did; if not, another driver was faster."""
        where = _folder(output) / f"{self._number:06d}.parquet"
        with draft_for(where) as draft:
            with pq.ParquetWriter(draft, UNITS, store_schema=False) as writer:
                rows = self._rows()
                while group := list(itertools.islice(rows, GROUP)):
                    writer.write_table(pa.Table.from_pylist(group, schema=UNITS), GROUP)
                writer.add_key_value_metadata({METADATA_KEY: self._metadata()})
            return create_from(draft, where)

    def _metadata(self) -> bytes:
        schema = self._schema.serialize().to_pybytes().hex()
        body = {"format": FORMAT, "dropped": self._dropped, "schema": schema}
        return json.dumps(body).encode()

    def _rows(self) -> Iterator[dict[str, Any]]:
        cuts = self._source.cut(self._new) if self._new else iter(())
        new = ((cut, None) for cut in cuts)
        for index, (cut, old) in enumerate(
            self._with_empty_files(itertools.chain(self._recut(), new)), self._first
        ):
            files = [self._file(path) for path in cut.files]
            contents = [(file["path"], file["size"], file["tag"]) for file in files]
            name = unit_id(contents, cut.start, cut.stop)
            yield {
                "id": name,
                "part": old.part if old else part_name(index, name),
                "start": cut.start,
                "stop": cut.stop,
                "offset": cut.offset,
                "replaces": old.index if old else None,
                "files": files,
            }

    def _with_empty_files(
        self, pieces: Iterable[tuple[Cut, Unit | None]]
    ) -> Iterator[tuple[Cut, Unit | None]]:
        """The pieces, and an empty one for each file without rows, so that it counts as planned."""
        empty = dict.fromkeys(self._unplanned)
        for cut, old in pieces:
            for path in cut.files:
                empty.pop(path, None)
            yield cut, old
        for path in empty:
            yield Cut(files=(path,), start=0, stop=0), None

    def _file(self, path: str) -> dict[str, Any]:
        size, stamp, tag = self._files.get(path) or self._covered[path]
        return {"path": path, "size": size, "stamp": stamp, "tag": tag}

    def _recut(self) -> Iterator[tuple[Cut, Unit | None]]:
        """The pieces of changed files, each with the unit whose part it takes over, if any."""
        if not self._changed:
            return
        assert self._plan is not None
        live = (self._plan.unit(int(index)) for index in np.flatnonzero(self._plan.is_live))
        old = [unit for unit in live if self._changed.intersection(unit.files)]
        if self._source.kind is Kind.IMAGES:
            for unit in old:
                present = tuple(path for path in unit.files if path in self._present)
                yield Cut(files=present, start=0, stop=len(present)), unit
            return
        for path in sorted(self._changed):
            cuts = list(self._source.cut([self._unplanned[path]]))
            olds = [unit for unit in old if unit.files == (path,)]
            yield from zip(cuts, [*olds, *itertools.repeat(None, len(cuts))], strict=False)
            self._dropped.extend(unit.index for unit in olds[len(cuts) :])


def _is_unchanged(file: FileInfo, was: tuple[int, str, str], root: Location) -> bool:
    """By size and stamp; if the stamp differs (a copy on another machine), by fingerprint."""
    size, stamp, tag = was
    if file.size != size:
        return False
    return file.stamp == stamp or fingerprints(root, [file]) == [tag]


def _covered(plan: Plan) -> Covered:
    covered: Covered = {}
    for plan_file in plan.files:
        with plan_file.location.open() as file, pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(GROUP, columns=["files"]):
                files = batch.column(0).flatten()
                columns = (files.field(name).to_pylist() for name in FILE.names)
                covered.update((path, tuple(rest)) for path, *rest in zip(*columns, strict=True))
    return covered


def _folder(output: Location) -> Location:
    return output / INTERNAL / "plan"


def _metadata(parquet: pq.ParquetFile, file: Location) -> dict[str, Any]:
    raw = (parquet.metadata.metadata or {}).get(METADATA_KEY)
    meta: dict[str, Any] = json.loads(raw) if raw else {}
    if meta.get("format") != FORMAT:
        raise UserError(f"{file} is of another version of gemma3-batch; choose another OUTPUT")
    return meta


def _schema(meta: Mapping[str, Any]) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(bytes.fromhex(meta["schema"])))


@functools.lru_cache(8)
def _read_group(file: Location, group: int) -> pa.Table:
    with file.open() as opened, pq.ParquetFile(opened) as parquet:
        return parquet.read_row_group(group)


def _unit(index: int, row: Mapping[str, Any]) -> Unit:
    return Unit(
        index=index,
        id=row["id"],
        part=row["part"],
        replaces=row["replaces"],
        files=tuple(file["path"] for file in row["files"]),
        start=row["start"],
        stop=row["stop"],
        offset=row["offset"],
    )
