"""Which units there are: saved before anything runs, extended, never altered.

A plan is a sequence of files, `OUTPUT/_gemma3_batch/plan/<number>.parquet`. Each is created only if
it does not exist, so drivers that start at once agree. What a later one adds, and when, is
`extension`'s: it may have units that take over the parts of older ones (`Unit.replaces`), and say
that older units are dropped.

Memory holds a few numbers for each unit; the units themselves are read when they are needed.
"""

from __future__ import annotations

import bisect
import functools
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.contract.errors import UserError
from pipeline.sources.units import Unit
from pipeline.storage.location import INTERNAL, Location

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FORMAT = 1
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
        pa.field("taken", pa.binary()),
        pa.field("rows", pa.int64()),
    ]
)
"""`taken` and `rows` are null where all rows of the range are taken. Plan files of earlier versions
have neither."""
KEPT_GROUPS = 4
"""Row groups that a plan keeps in memory: units are mostly read one after the other."""


@dataclass(frozen=True)
class PlanFile:
    """One file of a plan.

    Attributes:
        location: Where it is.
        first: Index of its first unit.
        groups: Units before each of its row groups, and in all of them.
    """

    location: Location
    first: int
    groups: tuple[int, ...]

    @property
    def count(self) -> int:
        """Units in it."""
        return self.groups[-1]

    def group(self, number: int) -> pa.Table:
        """A row group, as a table of `UNITS`. Raises OSError."""
        with self.location.open() as file, pq.ParquetFile(file) as parquet:
            return parquet.read_row_group(number)


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
        commit: The commit of the input's repository when the newest plan file was made; None
            where it lies elsewhere.
    """

    output: Location
    files: tuple[PlanFile, ...]
    rows: np.ndarray
    replaces: np.ndarray
    is_live: np.ndarray
    schema: pa.Schema
    commit: str | None = None
    _groups: dict[tuple[int, int], pa.Table] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __len__(self) -> int:
        """All units, obsolete ones included."""
        return len(self.rows)

    @property
    def total_rows(self) -> int:
        """Rows of all live units."""
        return int(self.rows[self.is_live].sum())

    @functools.cached_property
    def heads(self) -> np.ndarray:
        """[units] int64: the last unit that takes over each one's part, directly or in steps."""
        successors = np.full(len(self), -1, dtype=np.int64)
        takers = np.flatnonzero(self.replaces >= 0)
        successors[self.replaces[takers]] = takers
        heads = np.arange(len(self))
        while (further := successors[heads]).max(initial=-1) >= 0:
            heads = np.where(further >= 0, further, heads)
        return heads

    def unit(self, index: int) -> Unit:
        """One unit. Raises OSError."""
        row = self.entry(index)
        files = row["files"]
        size, tag = (files[0]["size"], files[0]["tag"]) if len(files) == 1 else (0, "")
        return Unit(
            index=index,
            id=row["id"],
            part=row["part"],
            replaces=row["replaces"],
            ancestors=tuple(self._ancestors(row["replaces"])),
            files=tuple(file["path"] for file in files),
            size=size,
            tag=tag,
            start=row["start"],
            stop=row["stop"],
            offset=row["offset"],
            taken=row.get("taken"),
        )

    def entry(self, index: int) -> dict[str, Any]:
        """What the plan says of a unit, a row of `UNITS`. Raises OSError."""
        table, row = self._place(index)
        entry: dict[str, Any] = table.slice(row, 1).to_pylist()[0]
        return entry

    def ids(self) -> pa.ChunkedArray:
        """The ids of all units. Raises OSError."""
        chunks = (_columns(file, ["id"])["id"] for file in self.files)
        return pa.chunked_array([part for ids in chunks for part in ids.chunks], pa.string())

    def pending(self, is_committed: np.ndarray) -> np.ndarray:
        """[n] int64, indices of the units to compute, in input order.

        Args:
            is_committed: [units] bool, see `counts.committed_units`.
        """
        return np.flatnonzero(self.is_live & ~is_committed & (self.rows > 0))

    def units_of(self, paths: pa.Array) -> Iterator[tuple[int, bool]]:
        """Live units that have any of these input files, and whether they have no other.

        Raises:
            OSError: The plan cannot be read.
        """
        for file in self.files:
            for number, before in enumerate(file.groups[:-1]):
                lists = file.group(number)["files"].combine_chunks()
                is_one = pc.is_in(lists.flatten().field("path"), value_set=paths)
                units = lists.value_parent_indices().filter(is_one).to_numpy()
                hits = np.bincount(units, minlength=len(lists))
                for row in np.flatnonzero(hits):
                    index = file.first + before + int(row)
                    if self.is_live[index]:
                        yield index, hits[row] == len(lists[int(row)])

    def _ancestors(self, replaced: int | None) -> Iterator[str]:
        while replaced is not None:
            table, row = self._place(replaced)
            yield table["id"][row].as_py()
            replaced = table["replaces"][row].as_py()

    def _place(self, index: int) -> tuple[pa.Table, int]:
        """The row group that a unit is in, and its row there."""
        number = bisect.bisect_right(self.files, index, key=lambda file: file.first) - 1
        file = self.files[number]
        group = bisect.bisect_right(file.groups, index - file.first) - 1
        table = self._groups.get((number, group))
        if table is None:
            table = file.group(group)
            while len(self._groups) >= KEPT_GROUPS:
                self._groups.pop(next(iter(self._groups)))
            self._groups[number, group] = table
        return table, index - file.first - file.groups[group]


def open_plan(output: Location) -> Plan | None:
    """The plan of an OUTPUT; None if there is none.

    Raises:
        UserError: It was made by a version with another format.
        OSError: It cannot be read.
    """
    folder = plan_folder(output)
    names = sorted(name for name in folder.names() if name.endswith(".parquet"))
    if not names:
        return None
    files: list[PlanFile] = []
    rows, replaces, dropped = [], [], []
    for name in names:
        first = files[-1].first + files[-1].count if files else 0
        with (folder / name).open() as file, pq.ParquetFile(file) as parquet:
            meta = _metadata(parquet, folder / name)
            table = parquet.read(columns=["start", "stop", "replaces", "rows"])
            groups = [parquet.metadata.row_group(n).num_rows for n in range(parquet.num_row_groups)]
        files.append(PlanFile(folder / name, first, (0, *np.cumsum(groups).tolist())))
        rows.append(_rows(table))
        replaces.append(_numbers(table["replaces"]))
        dropped.extend(meta["dropped"])
    taken = np.concatenate(replaces)
    is_live = np.ones(len(taken), dtype=bool)
    is_live[taken[taken >= 0]] = False
    is_live[np.array(dropped, dtype=np.int64)] = False
    return Plan(
        output,
        tuple(files),
        np.concatenate(rows),
        taken,
        is_live,
        _schema(meta),
        meta.get("commit"),
    )


def dropped_parts(plan: Plan) -> list[str]:
    """Names of parts whose rows are no longer in the planned input. Raises OSError."""
    kept = {int(index) for index in plan.replaces if index >= 0}
    gone = (index for index in np.flatnonzero(~plan.is_live) if int(index) not in kept)
    return [plan.unit(int(index)).part for index in gone]


def plan_folder(output: Location) -> Location:
    """Where a plan's files are."""
    return output / INTERNAL / "plan"


def plan_metadata(
    schema: pa.Schema, dropped: list[int], commit: str | None = None
) -> dict[bytes, bytes]:
    """What a plan file says beside its units.

    Args:
        schema: The input's columns.
        dropped: Indices of units that are obsolete, and whose parts no other takes over.
        commit: The commit of the input's repository, if it lies in one.
    """
    columns = schema.serialize().to_pybytes().hex()
    body: dict[str, Any] = {"format": FORMAT, "dropped": dropped, "schema": columns}
    if commit is not None:
        body["commit"] = commit
    return {METADATA_KEY: json.dumps(body).encode()}


def _rows(table: pa.Table) -> np.ndarray:
    """[units] int64: rows of each unit of a plan file."""
    whole: np.ndarray = _numbers(table["stop"]) - _numbers(table["start"])
    if "rows" not in table.column_names:  # a plan file of an earlier version
        return whole
    taken = _numbers(table["rows"])
    rows: np.ndarray = np.where(taken < 0, whole, taken)
    return rows


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    """[n] int64, -1 for null."""
    numbers: np.ndarray = column.fill_null(-1).to_numpy().astype(np.int64)
    return numbers


def _columns(file: PlanFile, names: list[str]) -> pa.Table:
    with file.location.open() as opened, pq.ParquetFile(opened) as parquet:
        return parquet.read(columns=names)


def _metadata(parquet: pq.ParquetFile, file: Location) -> dict[str, Any]:
    raw = (parquet.metadata.metadata or {}).get(METADATA_KEY)
    meta: dict[str, Any] = json.loads(raw) if raw else {}
    if meta.get("format") != FORMAT:
        raise UserError(f"{file} is of another version of gemma3-batch; choose another OUTPUT")
    return meta


def _schema(meta: Mapping[str, Any]) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(bytes.fromhex(meta["schema"])))
