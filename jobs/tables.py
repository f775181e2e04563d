"""How a run's state and its failed rows are shown: text for a terminal, parquet for the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
from rich.table import Table

from pipeline.storage import locate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

    from pipeline import Status

SHOWN = ("row_key", "outcome", "error")
MOST_COLUMNS = 2
"""Columns of the input that are shown beside ours."""


def status_text(status: Status) -> str:
    """A run's state in a few lines."""
    share = status.rows_done / status.rows if status.rows else 1.0
    counts = ", ".join(f"{rows:,} {outcome}" for outcome, rows in sorted(status.outcomes.items()))
    lines = [
        f"{status.task}: {status.rows_done:,} of {status.rows:,} rows ({share:.1%}) in "
        f"{status.units_done:,} of {status.units:,} parts",
        f"Outcomes: {counts or 'none yet'}",
        f"Started {status.started}, "
        + (f"finished {status.finished}" if status.finished else "not finished"),
    ]
    if status.duplicates:
        lines.insert(2, f"Like another row, computed once: {status.duplicates:,}")
    if status.rows_journalled:
        lines.insert(1, f"Finished in units that are not complete: {status.rows_journalled:,} rows")
    return "\n".join(lines)


def show_errors(tables: Iterable[pa.Table], limit: int, console: Console) -> None:
    """Print the first `limit` rows, and how many there are."""
    shown, total = None, 0
    for rows in tables:
        total += rows.num_rows
        if shown is None:
            own = [name for name in rows.column_names if name not in SHOWN][:MOST_COLUMNS]
            shown = Table(*own, *SHOWN)
        names = [column.header for column in shown.columns]
        for row in rows.select(names).slice(0, max(0, limit - shown.row_count)).to_pylist():
            shown.add_row(*(str(row[str(name)]) for name in names))
    if shown is not None:
        console.print(shown)
    console.print(f"{total:,} rows", highlight=False)


def export_errors(tables: Iterable[pa.Table], path: str) -> int:
    """Write all rows to one parquet file, a path or a URI; returns how many."""
    writer, total = None, 0
    where = locate(path)
    with where.fs.open(where.path, "wb") as file:
        for rows in tables:
            writer = writer or pq.ParquetWriter(file, rows.schema)
            writer.write_table(rows)
            total += rows.num_rows
        (writer or pq.ParquetWriter(file, pa.schema([]))).close()
    return total
