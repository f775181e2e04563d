"""Reading an OUTPUT back: its parts, in input order, with nothing but pyarrow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow.dataset as ds
from pyarrow.fs import FSSpecHandler, PyFileSystem

if TYPE_CHECKING:
    from pipeline.storage.location import Location

PART = "part-"


def part_files(output: Location) -> list[str]:
    """The paths of the parts on the output's filesystem, in input order."""
    return [(output / name).path for name in sorted(output.names(PART))]


def open_parts(output: Location) -> ds.Dataset:
    """The parts as one dataset, which is read when it is asked."""
    filesystem = PyFileSystem(FSSpecHandler(output.fs))
    return ds.dataset(part_files(output), filesystem=filesystem, format="parquet")
