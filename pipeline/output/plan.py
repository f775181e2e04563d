"""Which units there are: saved before anything runs, extended when the input grows, never changed.

A plan is a row of generations, `OUTPUT/_gemma3_batch/plan/<number>.parquet`, each created
exclusively, so that drivers that start at once agree. A later generation cuts only files that no
earlier one covers, so that nothing of what is done moves. A file whose content changed is cut
again; its units take over the output files of the old ones (`Unit.replaces`), and old units that
nobody takes over are dropped.

Only numbers are held in memory, a few bytes for a unit; units themselves are read when their turn
comes.
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
"""Units of a row group in a plan's file: what is read to get one of them."""
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
"""Size, stamp and tag of each file that is planned, by path."""


@dataclass(frozen=True)
class Generation:
    """One file of a plan.

    Attributes:
        file: Where it is.
        first: Index of its first unit.
        count: Units in it.
    """

    file: Location
    first: int
    count: int


@dataclass(frozen=True)
class Plan:
    """All units of a run.

    Attributes:
        output: OUTPUT.
        generations: Its files, oldest first.
        rows: [units] int64, rows of each unit.
        replaces: [units] int64, index of the unit whose part it takes over, -1 for none.
        is_live: [units] bool, False where a later generation made a unit obsolete.
        schema: The input's columns.
    """

    output: Location
    generations: tuple[Generation, ...]
    rows: np.ndarray
    replaces: np.ndarray
    is_live: np.ndarray
    schema: pa.Schema

    def __len__(self) -> int:
        """Units, obsolete ones too."""
        return len(self.rows)

    @property
    def total_rows(self) -> int:
        """Rows of the input, as far as it is planned."""
        return int(self.rows[self.is_live].sum())

    def unit(self, index: int) -> Unit:
        """One unit. Raises OSError."""
        generation = next(g for g in self.generations if index < g.first + g.count)
        group, row = divmod(index - generation.first, GROUP)
        table = _read_group(generation.file, group)
        return _unit(index, table.slice(row, 1).to_pylist()[0])

    def pending(self, is_committed: np.ndarray) -> np.ndarray:
        """[n] indices of the units that are still to be done, in input order."""
        return np.flatnonzero(self.is_live & ~is_committed & (self.rows > 0))


def open_plan(output: Location) -> Plan | None:
    """The plan of an OUTPUT, or None where none was made.

    Raises:
        UserError: It was made by a version with another format.
    """
    folder = _folder(output)
    names = sorted(name for name in folder.names() if name.endswith(".parquet"))
    if not names:
        return None
    generations, rows, replaces, dropped = [], [], [], []
    first = 0
    for name in names:
        with (folder / name).open() as file, pq.ParquetFile(file) as parquet:
            meta = _metadata(parquet, folder / name)
            table = parquet.read(columns=["start", "stop", "replaces"])
        generations.append(Generation(folder / name, first, table.num_rows))
        start, stop, replaced = _numbers(table)
        rows.append(stop - start)
        replaces.append(replaced)
        dropped.extend(meta["dropped"])
        first += table.num_rows
    taken = np.concatenate(replaces)
    is_live = np.ones(first, dtype=bool)
    is_live[taken[taken >= 0]] = False
    is_live[np.array(dropped, dtype=np.int64)] = False
    return Plan(output, tuple(generations), np.concatenate(rows), taken, is_live, _schema(meta))


def extended(plan: Plan | None, output: Location, listing: Listing, source: Source) -> Plan:
    """The plan with the input's new and changed files in it; the same plan if there are none.

    Raises:
        UserError: A new file cannot be read, or its columns differ.
    """
    while True:
        covered = _covered(plan) if plan else {}
        news = _news(covered, listing)
        if plan is not None and not news:
            return plan
        draft = _Draft(plan, covered, listing, source, news)
        if not draft.save(output) and plan is None and not _folder(output).names():
            raise UserError(f"OUTPUT {output} keeps no plan; is its store writable?")
        plan = open_plan(output)
        assert plan is not None, "a plan was just created, by us or by another driver"


def dropped_parts(plan: Plan) -> list[str]:
    """Names of output files whose rows are no longer in the input's planned files."""
    kept = {int(index) for index in plan.replaces if index >= 0}
    gone = (index for index in np.flatnonzero(~plan.is_live) if int(index) not in kept)
    return [plan.unit(int(index)).part for index in gone]


def is_same_input(plan: Plan, listing: Listing) -> bool:
    """Whether at least one planned file is still there as it was, wherever the input lies now."""
    covered = _covered(plan)
    known = (file for file in listing.files if file.path in covered)
    return any(_is_unchanged(file, covered[file.path], listing.root) for file in known)


class _Draft:
    """The next generation, before it is saved."""

    def __init__(
        self,
        plan: Plan | None,
        covered: Covered,
        listing: Listing,
        source: Source,
        news: Sequence[FileInfo],
    ) -> None:
        self._plan = plan
        self._source = source
        self._first = len(plan) if plan else 0
        self._number = len(plan.generations) if plan else 0
        self._schema = plan.schema if plan else source.schema
        tags = fingerprints(listing.root, news)
        self._files: Covered = {
            f.path: (f.size, f.stamp, tag) for f, tag in zip(news, tags, strict=True)
        }
        self._changed = {file.path for file in news if file.path in covered}
        self._new = [file for file in news if file.path not in covered]
        self._news = {file.path: file for file in news}
        self._covered = covered
        self._present = {file.path for file in listing.files} if self._changed else set()
        self._dropped: list[int] = []

    def save(self, output: Location) -> bool:
        """Write it. Returns whether this call did, and no other driver."""
        where = _folder(output) / f"{self._number:06d}.parquet"
        with draft_for(where) as draft:
            with pq.ParquetWriter(draft, UNITS, store_schema=False) as writer:
                for rows in _grouped(self._rows()):
                    writer.write_table(pa.Table.from_pylist(rows, schema=UNITS), GROUP)
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
                "part": old.part if old else f"part-{index:08d}-{name}.parquet",
                "start": cut.start,
                "stop": cut.stop,
                "offset": cut.offset,
                "replaces": old.index if old else None,
                "files": files,
            }

    def _with_empty_files(
        self, pieces: Iterable[tuple[Cut, Unit | None]]
    ) -> Iterator[tuple[Cut, Unit | None]]:
        """The pieces, and one of no rows for each file that has none, so that it counts as seen."""
        empty = dict.fromkeys(self._news)
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
        """New pieces of changed files, each with the unit whose part it takes over."""
        if not self._changed:
            return
        assert self._plan is not None
        old = [unit for unit in _live_units(self._plan) if self._changed.intersection(unit.files)]
        if self._source.kind is Kind.IMAGES:
            yield from self._same_slices(old)
            return
        for path in sorted(self._changed):
            cuts = list(self._source.cut([self._news[path]]))
            olds = [unit for unit in old if unit.files == (path,)]
            yield from zip(cuts, [*olds, *itertools.repeat(None, len(cuts))], strict=False)
            self._dropped.extend(unit.index for unit in olds[len(cuts) :])

    def _same_slices(self, old: Iterable[Unit]) -> Iterator[tuple[Cut, Unit | None]]:
        for unit in old:
            files = tuple(path for path in unit.files if path in self._present)
            yield Cut(files=files, start=0, stop=len(files)), unit


def _news(covered: Mapping[str, tuple[int, str, str]], listing: Listing) -> list[FileInfo]:
    """Files that are not planned, or not as they are now."""
    return [
        file
        for file in listing.files
        if file.path not in covered or not _is_unchanged(file, covered[file.path], listing.root)
    ]


def _is_unchanged(file: FileInfo, was: tuple[int, str, str], root: Location) -> bool:
    """By size and stamp; where the stamp is another (a copy on another machine), by content."""
    size, stamp, tag = was
    if file.size != size:
        return False
    return file.stamp == stamp or fingerprints(root, [file]) == [tag]


def _covered(plan: Plan) -> Covered:
    covered: Covered = {}
    for generation in plan.generations:
        with generation.file.open() as file, pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(GROUP, columns=["files"]):
                files = batch.column(0).flatten()
                columns = (files.field(name).to_pylist() for name in FILE.names)
                covered.update((path, tuple(rest)) for path, *rest in zip(*columns, strict=True))
    return covered


def _live_units(plan: Plan) -> Iterator[Unit]:
    return (plan.unit(int(index)) for index in np.flatnonzero(plan.is_live))


def _folder(output: Location) -> Location:
    return output / INTERNAL / "plan"


def _grouped(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while group := list(itertools.islice(rows, GROUP)):
        yield group


def _metadata(parquet: pq.ParquetFile, file: Location) -> dict[str, Any]:
    raw = (parquet.metadata.metadata or {}).get(METADATA_KEY)
    meta: dict[str, Any] = json.loads(raw) if raw else {}
    if meta.get("format") != FORMAT:
        raise UserError(f"{file} is of another version of gemma3-batch; choose another OUTPUT")
    return meta


def _schema(meta: Mapping[str, Any]) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(bytes.fromhex(meta["schema"])))


def _numbers(table: pa.Table) -> list[np.ndarray]:
    return [
        column.fill_null(-1).to_numpy().astype(np.int64)
        for column in table.combine_chunks().columns
    ]


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
