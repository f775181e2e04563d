"""What an INPUT is: which files it has, how they are cut into units, and how a unit is read.

    listing      which files, and of which format
    hub_dataset  which of a dataset's on the Hugging Face Hub
    skipped      how the files that are not read are counted and named
    source       what every format offers: cutting files, reading units
    parquet, jsonl, webdataset, image_folder, delimited      the formats, in `FORMATS`
    records      the records of CSV
    samples      which members of a tar shard are a sample, and its rows
    parquet_batches   how many of its rows are read at a time
    hive         parquet's partitions: columns from paths
    json_types   the types of JSON columns
    unified      the one schema of files whose columns differ
    common_type  which type holds the values of two
    fit          how a file's rows get the columns of all files
    scanned      how files without an index of their rows are cut
    readable     what is shown of a value that Python cannot hold
    columns      which columns a task may read, and which pass through
    units        what a unit is, and its id
    selection    which rows a run takes, where it does not take all
    unreadable   how a file that cannot be read is reported

Which units a run has is the plan's; fetching and decoding images is `images`'.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.sources.columns import FAULT, check_columns
from pipeline.sources.delimited import Delimited
from pipeline.sources.hub_dataset import HubChoice
from pipeline.sources.image_folder import ImageFolder
from pipeline.sources.jsonl import JsonLines
from pipeline.sources.listing import ROW_A_FILE, Kind, Listing, kind_of, known_input, list_input
from pipeline.sources.parquet import ParquetSource
from pipeline.sources.selection import (
    ALL_ROWS,
    Chosen,
    Selection,
    are_missing,
    passthrough_taken,
    read_taken,
)
from pipeline.sources.skipped import Skipped
from pipeline.sources.source import Source
from pipeline.sources.webdataset import WebDataset

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

__all__ = [
    "ALL_ROWS",
    "FAULT",
    "ROW_A_FILE",
    "Chosen",
    "HubChoice",
    "Kind",
    "Listing",
    "Selection",
    "Skipped",
    "Source",
    "are_missing",
    "check_columns",
    "kind_of",
    "known_input",
    "list_input",
    "open_source",
    "passthrough_taken",
    "read_taken",
]


FORMATS: dict[Kind, Callable[[Listing, int, bool, pa.Schema | None], Source]] = {
    Kind.PARQUET: ParquetSource.from_listing,
    Kind.JSONL: JsonLines.from_listing,
    Kind.WEBDATASET: WebDataset.from_listing,
    Kind.IMAGES: ImageFolder.from_listing,
    Kind.VIDEOS: ImageFolder.from_listing,
    Kind.CSV: Delimited.from_listing,
}
"""What opens each format: with the files, `unit_rows`, `keep_images` and the schema."""


def open_source(
    listing: Listing,
    *,
    unit_rows: int,
    keep_images: bool,
    schema: pa.Schema | None = None,
    most_rows: int | None = None,
) -> Source:
    """The source for files of one format.

    Args:
        listing: The files.
        unit_rows: Most rows of a unit.
        keep_images: Whether binary columns, images among them, pass through to the output.
        schema: The columns as an earlier plan recorded them; with it no file is opened.
        most_rows: Rows of a file beyond which it need not be cut, where that takes reading it.

    Raises:
        UserError: A file cannot be read, no file has rows, or their columns cannot be united.
    """
    source = FORMATS[listing.kind](listing, unit_rows, keep_images, schema)
    if isinstance(source, JsonLines | Delimited):
        return replace(source, most_rows=most_rows)
    return source
