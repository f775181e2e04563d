"""Tells whether a small parquet file of ours is whole: they are not synced to the disk.

After a power loss a file may be cut off, or have zeros in the place of some of its pages. Its pages
have checksums (those of earlier versions have none), so it is not taken for a whole one.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq


def undamaged(body: bytes) -> pa.Table | None:
    """The rows of a parquet file; None if it is damaged.

    Args:
        body: All of the file, written with `write_page_checksum`.
    """
    try:
        return pq.read_table(pa.BufferReader(body), page_checksum_verification=True)
    except (OSError, pa.ArrowInvalid):  # of the parser; nothing is read from a store here
        return None
