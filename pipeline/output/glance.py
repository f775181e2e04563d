"""A look at an OUTPUT in a notebook: how many rows have which outcome, and the first of them.

All that is in a row is escaped. The whole view is that of `gemma3-batch report`.
"""

from __future__ import annotations

import base64
import io
from html import escape
from typing import TYPE_CHECKING, Any

from pipeline.contract.record import ADDED, counted
from pipeline.output.parts import part_files, part_index, read_part
from pipeline.output.pictures import Pictures
from pipeline.output.plan import open_plan
from pipeline.output.run_record import prefix_of, read_record
from pipeline.sources.columns import holds_binary
from pipeline.sources.readable import readable_rows
from pipeline.storage.location import Location

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

    from pipeline.output.plan import Plan
    from pipeline.output.run_record import Record
    from pipeline.storage.location import StorageOptions

ROWS = 6
MOST_COLUMNS = 6
LONGEST = 300
"""Characters of a value."""
SIDE = 128
"""Pixels of an image."""
CELL = (
    "text-align:start;vertical-align:top;max-width:28em;overflow-wrap:anywhere;white-space:pre-wrap"
)


def glance(
    output: Location, outcomes: Mapping[str, int], options: StorageOptions | None = None
) -> str:
    """A few rows of an OUTPUT as HTML, with their images.

    Args:
        output: OUTPUT.
        outcomes: Its rows by outcome.
        options: Arguments of fsspec's filesystems, by protocol.

    Raises:
        OSError, UserError: OUTPUT cannot be read.
    """
    place = f"<code>{escape(str(output))}</code>"
    head = f"<p><b>{sum(outcomes.values()):,} rows</b> ({counted(outcomes)}) in {place}</p>"
    record, plan, files = read_record(output), open_plan(output), part_files(output)
    if record is None or plan is None or not files:
        return head
    return f"{head}{_table(record, plan, Location(output.fs, files[0]), options)}"


def _table(record: Record, plan: Plan, part: Location, options: StorageOptions | None) -> str:
    """The first rows of a part."""
    prefix = prefix_of(record)
    rows = read_part(part, _is_shown).slice(0, ROWS)
    names = _shown_columns(rows.schema.names, record, prefix)
    images = _images(record, plan, part, rows.num_rows, options)
    heads = [*(["image"] if any(images) else []), *names]
    lines = ["".join(f"<th style='text-align:start'>{escape(name)}</th>" for name in heads)]
    for image, row in zip(images, readable_rows(rows.select(names)), strict=True):
        cells = [image] if any(images) else []
        cells += [_cell(row[name]) for name in names]
        lines.append("".join(f"<td style='{CELL}'>{cell}</td>" for cell in cells))
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _is_shown(column: pa.Field) -> bool:
    return not holds_binary(column.type)


def _shown_columns(names: Sequence[str], record: Record, prefix: str) -> list[str]:
    """The job's columns and the outcome, after as many of the input's as there is room for."""
    results = [name for name in (f"{prefix}{each}" for each in record["columns"]) if name in names]
    results = results[: MOST_COLUMNS - 1]
    added = {f"{prefix}{name}" for name in ADDED.names}
    own = [name for name in names if name not in added and name not in results]
    own = [name for name in own if name.removeprefix(prefix) not in record["columns"]]
    return [*own[: max(1, MOST_COLUMNS - 1 - len(results))], *results, f"{prefix}outcome"]


def _cell(value: Any) -> str:
    text = "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
    text = text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    return f"<span dir='auto'>{escape(text)}</span>"


def _images(
    record: Record, plan: Plan, part: Location, count: int, options: StorageOptions | None
) -> list[str]:
    """The first rows' images as HTML; empty for one that cannot be had."""
    pictures = Pictures(record, plan, options)
    unit = plan.unit(int(plan.heads[part_index(part.name)]))
    found = [""] * count
    for picture in pictures.of(unit, range(count)) if pictures.column is not None else ():
        try:
            image = pictures.load(picture, SIDE)
        except Exception:  # noqa: S112  whatever it is, the row's error tells
            continue
        file = io.BytesIO()
        image.save(file, "WEBP", quality=60)
        body = base64.b64encode(file.getvalue()).decode()
        found[picture.position] = f"<img src='data:image/webp;base64,{body}' alt=''>"
    return found
