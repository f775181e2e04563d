"""Decides how the rows that match a filter are found, reading as little as that takes.

Of a parquet file the footer, and of the row groups that its statistics do not rule out the
filter's columns. Of other formats the filter's columns of every row, as a source reads them; a row
that cannot be read is taken, so that its fault is seen in the output.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from pipeline.sources.columns import FAULT, holds
from pipeline.sources.fit import fit
from pipeline.sources.hive import partition_value, partition_values
from pipeline.sources.listing import Kind
from pipeline.sources.unreadable import user_errors
from pipeline.storage.parallel import in_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pipeline.sources.selection.filters import Filter
    from pipeline.sources.source import Source
    from pipeline.sources.units import Cut

BATCH_ROWS = 65_536
"""Rows of a parquet file that are looked at together."""
FORMATS = {
    Kind.JSONL: "JSON lines",
    Kind.WEBDATASET: "tar",
    Kind.PARQUET: "parquet",
    Kind.CSV: "CSV",
}
"""What `user_errors` calls the formats."""

Rows = np.ndarray
"""[rows] int64: rows of a cut, counted from its first, ascending."""


def matching(
    source: Source, cuts: Iterable[Cut], condition: Filter, ahead: int
) -> Iterator[tuple[Cut, Rows]]:
    """Which rows of some cuts match.

    Args:
        source: Where they are read.
        cuts: The cuts, those of a file one after the other.
        condition: What matches.
        ahead: Most files, or cuts of formats but parquet, that are looked at before they are
            asked for.

    Yields:
        Each cut, with its rows that match.

    Raises:
        UserError: A file cannot be read.
    """
    if source.kind is Kind.PARQUET:
        files = ([*group] for _, group in itertools.groupby(cuts, lambda cut: cut.files))
        for found in in_order(partial(_of_parquet, source, condition), files, ahead):
            yield from found
    else:
        yield from in_order(partial(_of_rows, source, condition), cuts, ahead)


def _of_rows(source: Source, condition: Filter, cut: Cut) -> tuple[Cut, Rows]:
    where = source.root / cut.files[0]
    found = [np.zeros(0, dtype=bool)]
    with user_errors(where, FORMATS.get(source.kind, "parquet")):
        for table in source.read(cut, condition.columns):
            is_match = condition.matches(table)
            if FAULT in table.column_names:
                is_match = pc.or_(is_match, table[FAULT].is_valid())
            found.append(is_match.to_numpy())
    return cut, np.flatnonzero(np.concatenate(found))


def _of_parquet(source: Source, condition: Filter, cuts: list[Cut]) -> list[tuple[Cut, Rows]]:
    """The rows of the cuts of one file."""
    (path,) = cuts[0].files
    where = source.root / path
    exact: dict[str, Any] = {} if where.is_local else {"cache_type": "none"}
    with user_errors(where, "parquet"), where.fs.open(where.path, "rb", **exact) as file:
        fragment = ds.ParquetFileFormat().make_fragment(file)
        is_match = _matches_in_file(source, condition, path, fragment, file)
    return [(cut, np.flatnonzero(is_match[cut.start : cut.stop])) for cut in cuts]


def _matches_in_file(
    source: Source, condition: Filter, path: str, fragment: ds.ParquetFileFragment, file: Any
) -> np.ndarray:
    """[rows] bool: which rows of a file match."""
    meta = fragment.metadata
    sizes = [meta.row_group(group).num_rows for group in range(meta.num_row_groups)]
    begins = [0, *itertools.accumulate(sizes)]
    is_match = np.zeros(begins[-1], dtype=bool)
    own = {field.name: field.type for field in fragment.physical_schema}
    read = [name for name in condition.columns if name in own]
    types = {name: source.schema.field(name).type for name in condition.columns}
    is_plain = all(
        own.get(n) == type_ and not holds(type_, pa.types.is_floating) for n, type_ in types.items()
    )
    with pq.ParquetFile(file, metadata=meta) as parquet:
        for group in _not_ruled_out(condition, fragment, is_plain=is_plain):
            at = begins[group]
            for batch in _batches(parquet, group, read, sizes[group]):
                rows = _as_planned(source, condition, path, batch)
                is_match[at : at + batch.num_rows] = condition.matches(rows).to_numpy()
                at += batch.num_rows
    return is_match


def _not_ruled_out(
    condition: Filter, fragment: ds.ParquetFileFragment, *, is_plain: bool
) -> list[int]:
    """The row groups that may have matching rows, by their statistics.

    Args:
        condition: What matches.
        fragment: The file.
        is_plain: Whether it has all columns of the condition, with the types of the input, of which
            none can hold NaN: statistics leave that out, and it is unequal to any number.
    """
    if not is_plain:
        return [group.id for group in fragment.row_groups]
    try:
        kept = fragment.split_by_row_group(condition.expression)
    except pa.ArrowException:  # the condition cannot be computed of their statistics
        return [group.id for group in fragment.row_groups]
    return sorted(group.id for part in kept for group in part.row_groups)


def _batches(
    parquet: pq.ParquetFile, group: int, columns: list[str], rows: int
) -> Iterator[pa.RecordBatch]:
    if columns:
        yield from parquet.iter_batches(BATCH_ROWS, row_groups=[group], columns=columns)
    else:
        yield pa.record_batch({"_": pa.nulls(rows)})


def _as_planned(source: Source, condition: Filter, path: str, batch: pa.RecordBatch) -> pa.Table:
    """The filter's columns, with the types of the input and the values of the path."""
    schema = pa.schema([source.schema.field(name) for name in condition.columns])
    values, columns = partition_values(path), {}
    for name, type_ in zip(schema.names, schema.types, strict=True):
        if name in batch.schema.names:
            columns[name] = batch.column(name)
        else:
            value = partition_value(values.get(name), type_)
            columns[name] = pa.repeat(pa.scalar(value, type_), batch.num_rows)
    return fit(pa.table(columns), schema)
