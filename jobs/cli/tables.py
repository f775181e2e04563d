"""Shows a run's state, its failed rows and a calibration on a terminal; exports failed rows."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
from rich.table import Column, Table
from rich.text import Text

from jobs.options.check import unknown
from pipeline import Outcome, UserError, failed_rows
from pipeline.contract.errors import one_line
from pipeline.contract.record import ADDED, counted
from pipeline.sources.readable import readable_rows
from pipeline.storage.atomic import draft_beside, overwrite_from

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from rich.console import Console

    from jobs.moderation.calibration import Calibration
    from pipeline import Status
    from pipeline.sources import Skipped
    from pipeline.storage.location import Location, StorageOptions

SHOWN = ("outcome", "error")
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
MOST_COLUMNS = 2
"""Most columns of the input and of the job that are shown next to `SHOWN`."""


def status_text(status: Status) -> str:
    """A run's state in a few lines."""
    share = status.rows_done / status.rows if status.rows else 1.0
    lines = [
        f"{status.task}: {status.rows_done:,} of {status.rows:,} rows ({share:.1%}) in "
        f"{status.units_done:,} of {status.units:,} parts",
        f"Outcomes: {counted(status.outcomes) or 'none yet'}",
        f"Started {status.started}, " + _ended(status),
    ]
    if status.last_rows is not None and status.last_seconds is not None:
        new = f"{status.last_rows:,} new rows in {status.last_seconds:.0f} s"
        lines.append(f"The last run that finished: {new}")
    if status.duplicates:
        lines.insert(2, f"Identical to another row, computed once: {status.duplicates:,}")
    if status.rows_journalled:
        lines.insert(1, f"Finished in parts that are not complete: {status.rows_journalled:,} rows")
    if status.slice:
        parts = (f"{name.replace('_', ' ')} {value}" for name, value in status.slice.items())
        lines.append(f"Slice of INPUT: {', '.join(parts)}")
    lines += skipped_lines(status.skipped)
    return "\n".join(lines)


def _ended(status: Status) -> str:
    """When it finished; a run over a larger INPUT than the one before may not have."""
    if status.finished is None:
        return "not finished"
    is_whole = status.rows_done >= status.rows
    return f"{'' if is_whole else 'not finished; an earlier run '}finished {status.finished}"


def skipped_lines(skipped: Iterable[Skipped]) -> list[str]:
    """A line that names the files of INPUT that are not read; none where all are."""
    groups = [
        f"{group.count:,} {group.reason} ({', '.join(map(plain, group.examples))}"
        + (", ...)" if group.count > len(group.examples) else ")")
        for group in skipped
    ]
    return [f"Files of INPUT that are not read: {'; '.join(groups)}"] if groups else []


def calibration_table(found: Calibration) -> Table:
    """A policy's figures, one line for each threshold."""
    area = "" if found.auroc is None else f", AUROC {found.auroc:.4f}"
    table = Table(
        "threshold",
        "",
        "precision",
        "recall",
        "F1",
        title=f"{found.policy}, judged by {found.judge}: {found.positives:,} violations in "
        f"{found.rows:,} rows ({found.left_out:,} left out){area}",
    )
    wanted = f"precision {found.wanted_precision}"
    for name, line in (
        ("of the run", found.at_run),
        ("", found.at_half),
        ("best F1", found.best_f1),
        (wanted, found.at_precision),
    ):
        if line is not None:
            figures = (line.precision, line.recall, line.f1)
            cells = ("" if figure is None else f"{figure:.3f}" for figure in figures)
            # The threshold in full: rounded up, 0.99997 would flag nothing.
            table.add_row(repr(line.threshold), name, *cells)
    if found.wanted_precision is not None and found.at_precision is None:
        table.add_row("none", wanted, "", "", "")
    return table


def read_failed_rows(
    output: str, outcomes: Sequence[str], options: StorageOptions | None = None
) -> Iterator[pa.Table]:
    """The rows of an OUTPUT without results, or with these outcomes, part by part.

    Raises:
        UserError: There is no such outcome, or OUTPUT is not a run's.
    """
    for name in outcomes:
        if name not in [*Outcome]:
            raise UserError(f"outcome '{name}': {unknown(name, Outcome, 'outcome')}")
    return failed_rows(output, outcomes, options)


def show_errors(tables: Iterable[pa.Table], limit: int, console: Console, prefix: str = "") -> None:
    """Print the first rows, and the number of all.

    Args:
        tables: Failed rows, part by part.
        limit: How many rows to print.
        console: Where to print.
        prefix: What the names of the columns that the run added begin with.
    """
    rows: list[dict[str, object]] = []
    total = 0
    for table in tables:
        total += table.num_rows
        rows += readable_rows(table.slice(0, limit - len(rows)))
    if rows:
        console.print(_errors_table(rows, prefix))
    more = f", {len(rows):,} of them shown" if len(rows) < total else ""
    console.print(f"{total:,} row{'' if total == 1 else 's'}{more}", highlight=False)


def _errors_table(rows: Sequence[Mapping[str, object]], prefix: str) -> Table:
    """Failed rows with the columns that say something; values are wrapped, never cut."""
    filled = [name for name in rows[0] if any(row[name] not in (None, "") for row in rows)]
    added = [f"{prefix}{name}" for name in ADDED.names]
    own = [name for name in filled if name not in added][:MOST_COLUMNS]
    # The key is long; it is shown where nothing else says which row it is.
    shown = [name for name in (f"{prefix}{name}" for name in SHOWN) if name in filled]
    names = [*(own or [f"{prefix}row_key"]), *shown]
    table = Table(
        *(
            Column(_cell(name), overflow="fold", no_wrap=name == f"{prefix}outcome")
            for name in names
        )
    )
    for row in rows:
        table.add_row(*(_cell(row[name]) for name in names))
    return table


def _cell(value: object) -> Text:
    """A value as plain text: not read as markup, and without control characters."""
    return Text("" if value is None else plain(str(value)))


def plain(text: str) -> str:
    """Text without control characters, which a terminal would obey."""
    return CONTROL.sub("\ufffd", text)


def export_errors(tables: Iterable[pa.Table], where: Location) -> int:
    """Write all rows to one parquet file, which is there once all are; returns how many.

    Raises:
        UserError: The file cannot be written.
    """
    tables = iter(tables)
    first = next(tables, None)  # an error about OUTPUT is raised before a file is made
    schema, total = pa.schema([]) if first is None else first.schema, 0
    with draft_beside(where) as draft:
        with _writer(draft, where, schema) as writer:
            for rows in () if first is None else itertools.chain([first], tables):
                writer.write_table(rows)
                total += rows.num_rows
        overwrite_from(draft, where)
    return total


def _writer(draft: str, where: Location, schema: pa.Schema) -> pq.ParquetWriter:
    try:
        return pq.ParquetWriter(draft, schema)
    except OSError as error:
        raise UserError(f"export: {where} cannot be written: {one_line(error)}") from None
