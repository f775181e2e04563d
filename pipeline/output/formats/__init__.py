"""The formats that parts may have, by the names that a user gives them.

part_format   what every format does
parquet       one parquet file; the commit record is in its metadata
jsonl         JSON lines; the commit record lies beside (`beside`)
csv           CSV with a header in each part; the commit record lies beside
webdataset    a tar shard; the commit record is in its global header
values        a row's values as JSON has them, and back
beside        the commit record of a part that has no place for one

Each is one file for a part, written whole or not at all, so all of them keep the protocol of
OUTPUT's README. A format that is a folder of files with an index of its own (Lance, Iceberg) could
not: what makes a part exist would be that index, which all parts share.

A new format is a module here, its line in `FORMATS`, and its name in `contract.config`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pipeline.contract.errors import UserError
from pipeline.output.formats.csv import Csv
from pipeline.output.formats.jsonl import JsonLines
from pipeline.output.formats.parquet import Parquet
from pipeline.output.formats.webdataset import WebDataset

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.output.formats.part_format import PartFormat

__all__ = ["FORMATS", "check_columns", "format_of"]

FORMATS: Mapping[str, PartFormat] = {
    "parquet": Parquet(),
    "jsonl": JsonLines(),
    "csv": Csv(),
    "webdataset": WebDataset(),
}
"""By the value of `output_format`."""


def format_of(part: str) -> PartFormat:
    """The format of a part, by its name. Raises UserError for one of a later version."""
    for found in FORMATS.values():
        if part.endswith(found.suffix):
            return found
    raise UserError(f"{part} is in a format that this version of gemma3-batch does not know")


def check_columns(name: str, schema: pa.Schema) -> None:
    """Check that a format can hold all columns of an output.

    Args:
        name: The format.
        schema: The columns.

    Raises:
        UserError: It cannot hold one.
    """
    for field in schema:
        misfit = FORMATS[name].misfit(field)
        if misfit is not None:
            raise UserError(
                f"output_format: {name} cannot hold column '{field.name}', {misfit}; use parquet"
            )
        if name != "parquet" and schema.names.count(field.name) > 1:
            raise UserError(
                f"output_format: {name} cannot hold two columns '{field.name}'; rename one, or use "
                "parquet"
            )
