"""What an INPUT is: which files it has, how they are cut into units, and how a unit is read.

    listing      which files, and of which format
    skipped      how the files that are not read are counted and named
    source       what every format offers: cutting files, reading units
    parquet, jsonl, webdataset, image_folder      the formats
    samples      which members of a tar shard are a sample, and its rows
    parquet_batches   how many of its rows are read at a time
    hive         parquet's partitions: columns from paths
    json_types   the types of JSON columns
    scanned      how files without an index of their rows are cut
    columns      which columns a task may read, and which pass through
    units        what a unit is, and its id
    unreadable   how a file that cannot be read is reported

Which units a run has is the plan's; fetching and decoding images is `images`'.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.sources.columns import FAULT, check_columns
from pipeline.sources.image_folder import ImageFolder
from pipeline.sources.jsonl import JsonLines
from pipeline.sources.listing import ROW_A_FILE, Kind, Listing, list_input
from pipeline.sources.parquet import ParquetSource
from pipeline.sources.skipped import Skipped
from pipeline.sources.source import Source
from pipeline.sources.webdataset import WebDataset

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "FAULT",
    "ROW_A_FILE",
    "Kind",
    "Listing",
    "Skipped",
    "Source",
    "check_columns",
    "list_input",
    "open_source",
]


def open_source(
    listing: Listing, *, unit_rows: int, keep_images: bool, schema: pa.Schema | None = None
) -> Source:
    """The source for files of one format.

    Args:
        listing: The files.
        unit_rows: Most rows of a unit.
        keep_images: Whether binary columns, images among them, pass through to the output.
        schema: The columns as an earlier plan recorded them; with it no file is opened.

    Raises:
        UserError: The file that determines the columns cannot be read, or no file has rows.
    """
    if listing.kind in ROW_A_FILE:
        return ImageFolder(listing.root, unit_rows, keep_images, listing.kind)
    if listing.kind is Kind.JSONL:
        return JsonLines.from_listing(listing, unit_rows, schema)
    if listing.kind is Kind.WEBDATASET:
        return WebDataset.from_listing(listing, unit_rows, keep_images, schema)
    return ParquetSource.from_listing(listing, unit_rows, keep_images, schema)
