"""What an INPUT is: which files it has, how they are cut into units, and how a unit is read.

    listing      which files, and of which kind
    source       what every kind offers
    parquet      jsonl      webdataset      images      the kinds, each with its format's details
    columns      what a task may ask for, and what passes through

Fetching and decoding an image is `images`'; a unit's identity is `units`'.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.sources.columns import FAULT, check_columns
from pipeline.sources.image_folder import ImageFolder
from pipeline.sources.jsonl import JsonLines
from pipeline.sources.listing import Kind, Listing, list_input
from pipeline.sources.parquet import ParquetSource
from pipeline.sources.source import Source
from pipeline.sources.webdataset import WebDataset

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["FAULT", "Kind", "Listing", "Source", "check_columns", "list_input", "open_source"]


def open_source(
    listing: Listing, *, unit_rows: int, keep_images: bool, schema: pa.Schema | None = None
) -> Source:
    """Make what cuts and reads these files.

    Args:
        listing: The files.
        unit_rows: Most rows of a unit.
        keep_images: Whether images pass through to the output.
        schema: The columns as an earlier plan recorded them; with it no file is opened.

    Raises:
        UserError: The file that says which columns there are cannot be read, or none has rows.
    """
    if listing.kind is Kind.IMAGES:
        return ImageFolder(listing.root, unit_rows, keep_images)
    if listing.kind is Kind.JSONL:
        return JsonLines.over(listing, unit_rows, schema)
    if listing.kind is Kind.WEBDATASET:
        return WebDataset.over(listing, unit_rows, keep_images, schema)
    return ParquetSource.over(listing, unit_rows, keep_images, schema)
