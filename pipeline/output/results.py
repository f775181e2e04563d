"""Decides which columns the parts of an OUTPUT have together, where later ones have more.

A file that is added to INPUT may add columns to it (`sources.unified`). Parts that were written
before lack them; here they are null there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from pipeline.contract.record import ADDED
from pipeline.output.parts import open_parts, part_files, part_schema
from pipeline.output.plan import dropped_parts, open_plan
from pipeline.output.run_record import prefix_of, read_record
from pipeline.sources.columns import without_binary
from pipeline.storage.location import Location

if TYPE_CHECKING:
    import pyarrow.dataset as ds

    from pipeline.output.plan import Plan
    from pipeline.output.run_record import Record


def open_results(output: Location) -> ds.Dataset:
    """All rows of an OUTPUT as one dataset in input order, which reads when it is asked.

    Raises:
        OSError: OUTPUT cannot be read.
    """
    record, plan = read_record(output), open_plan(output)
    if record is None or plan is None:
        return open_parts(output)
    # A driver that died at its very end may have left parts of rows that it computed anew.
    return open_parts(output, results_schema(plan, record), without=dropped_parts(plan))


def results_schema(plan: Plan, record: Record) -> pa.Schema | None:
    """The columns of all parts together; None if there are no parts, or none was added.

    The input's columns are those of the plan, the added ones those of any part. Raises OSError.
    """
    files = part_files(plan.output)
    if len(plan.files) == 1 or not files:
        return None
    found = part_schema(Location(plan.output.fs, files[0]))
    prefix = prefix_of(record)
    ours = {f"{prefix}{name}" for name in (*ADDED.names, *record["columns"])}
    added = [field for field in found if field.name in ours]
    passed = plan.schema if record["config"]["keep_images"] else without_binary(plan.schema)
    own = [field for field in passed if field.name not in ours]  # `missing` makes one of two
    return pa.schema([*own, *added], metadata=found.metadata)
