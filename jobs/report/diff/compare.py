"""Compares two OUTPUTs: reads both once, and counts what differs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from jobs.report.columns import Role, columns_of
from jobs.report.diff.changes import Changes, cells
from jobs.report.diff.pairs import Side, by_column, by_unit, open_counts, reads
from pipeline.contract.record import ADDED
from pipeline.output.parts import part_schema
from pipeline.output.results import results_schema
from pipeline.output.run_record import differing
from pipeline.output.status import open_output

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobs.report.columns import Columns
    from pipeline.output.plan import Plan
    from pipeline.output.run_record import Record
    from pipeline.storage.location import StorageOptions

COMPARED_TOO = ("flagged",)
"""Remarks that are compared as answers are."""
OF_RUNS = ("rows", "seconds", "rows_per_second", "model_class")
"""What the records of finished runs say of how they went."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What differs between two OUTPUTs.

    Attributes:
        one: The first.
        other: The second.
        settings: What decides results and differs, by name: both values.
        runs: How the runs went, where that differs: both values.
        changes: What differs between the rows.
        on: The column by which rows were paired; None for `row_key`.
    """

    one: Side
    other: Side
    settings: Mapping[str, tuple[object, object]]
    runs: Mapping[str, tuple[object, object]]
    changes: Changes
    on: str | None

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        changes = self.changes
        return {
            "one": str(self.one.output),
            "other": str(self.other.output),
            "on": self.on or "row_key",
            "settings": {name: list(pair) for name, pair in self.settings.items()},
            "runs": {name: list(pair) for name, pair in self.runs.items()},
            "rows": {
                "both": changes.both,
                "only_one": changes.alone[0],
                "only_other": changes.alone[1],
                "unclear": list(changes.unclear),
            },
            "outcomes": [
                {"one": before, "other": after, "rows": rows}
                for before, after, rows in cells(changes.outcomes)
            ],
            "answers_changed": changes.any_answer,
            "columns": {
                name: {"changed": changes.changed[name], **_distance(changes, name)}
                for name in changes.compared
            },
            "tokens": {name: list(pair) for name, pair in changes.tokens.items()},
            "samples": [asdict(sample) for sample in changes.kept()],
        }


def compare_outputs(
    one: str,
    other: str,
    *,
    on: str | None = None,
    samples: int = 200,
    storage_options: StorageOptions | None = None,
) -> Difference:
    """Compare two OUTPUTs, finished or not.

    Memory holds the rows of one part of each, and with `on` some 100,000 rows of each, however many
    there are.

    Args:
        one: The folder of a run.
        other: The folder of another.
        on: Column that tells which rows belong together; None for `row_key`.
        samples: Most changed rows of each kind that are kept.
        storage_options: Arguments of fsspec's filesystems, by protocol.

    Raises:
        UserError: One is not the OUTPUT of a run, or has no column `on`.
        OSError: One cannot be read.
    """
    opened = [open_output(output, storage_options) for output in (one, other)]
    counts = [open_counts(plan) for _, _, plan in opened]
    known = [
        _columns(record, plan, table["part"].to_pylist()[:1])
        for (_, record, plan), table in zip(opened, counts, strict=True)
    ]
    compared = _common([_compared(columns) for columns in known])
    named = columns_named(known[0])
    sides = [
        Side(
            output=where,
            record=record,
            plan=plan,
            counts=table,
            columns=_read_columns(columns, compared, named, on),
        )
        for (where, record, plan), table, columns in zip(opened, counts, known, strict=True)
    ]
    changes = Changes(
        compared=compared, sources=named[1:], naming=named[0] or None, samples=samples
    )
    mine, theirs = sides
    for pairs in by_unit(mine, theirs) if on is None else by_column(mine, theirs, on):
        changes.add(pairs)
    return Difference(
        one=mine,
        other=theirs,
        settings=_settings(mine.record, theirs.record),
        runs=_runs(mine.record, theirs.record),
        changes=changes,
        on=on,
    )


def _columns(record: Record, plan: Plan, first: list[str]) -> Columns:
    schema = results_schema(plan, record)
    if schema is None and first:
        schema = part_schema(plan.output / first[0])
    return columns_of(record, plan.schema.names if schema is None else schema.names)


def _compared(columns: Columns) -> list[str]:
    """The columns of answers, without the prefix."""
    return [
        column.name.removeprefix(columns.prefix)
        for column in columns.all
        if column.role in (Role.ANSWER, Role.SCORE)
        or (column.role is Role.REMARK and column.label in COMPARED_TOO)
    ]


def _common(names: list[list[str]]) -> list[str]:
    return [name for name in names[0] if name in names[1]]


def columns_named(columns: Columns) -> list[str]:
    """The column that names a row (empty if none does), then those of the texts asked about."""
    return [columns.naming or "", *(column.name for column in columns.of_role(Role.SOURCE))]


def _read_columns(
    columns: Columns, compared: list[str], named: list[str], on: str | None
) -> dict[str, str]:
    """The columns of a side that are read, by the common name."""
    there = {column.name for column in columns.all}
    added = [columns.added(name) for name in (*ADDED.names, *compared)]
    own = [name for name in (*named, on) if name and name in there and name not in added]
    return reads(added, columns.prefix, [*dict.fromkeys(own)])


def _settings(one: Record, other: Record) -> dict[str, tuple[object, object]]:
    found = differing(one, other)
    inputs = tuple(record.get("input", record["config"]["input"]) for record in (one, other))
    if inputs[0] != inputs[1]:
        found["INPUT"] = (inputs[0], inputs[1])
    for package in sorted({*one["versions"], *other["versions"]}):
        pair = one["versions"].get(package), other["versions"].get(package)
        if pair[0] != pair[1]:
            found[f"version of {package}"] = pair
    return found


def _runs(one: Record, other: Record) -> dict[str, tuple[object, object]]:
    pairs = {name: (one.get(name), other.get(name)) for name in OF_RUNS}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _distance(changes: Changes, name: str) -> dict[str, float]:
    if name not in changes.distance:
        return {}
    distance = changes.distance[name]
    return {"mean_move": distance.mean, "largest_move": distance.most}
