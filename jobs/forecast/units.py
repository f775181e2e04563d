"""Which rows a run has to compute: those of its input, without what OUTPUT has already."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.output.counts import committed_units
from pipeline.output.extension import rows_left
from pipeline.sources import ROW_A_FILE
from pipeline.sources.units import Cut, cut_evenly

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from pipeline.execution.preparation import CheckedRun


def units_left(checked: CheckedRun) -> list[Cut]:
    """The units that a run would plan or has planned, and has not committed, in order of files.

    Nothing is written. Of a unit that is begun all rows count as left, and so do all rows of a file
    that has changed. Images and videos that are gone do not: there is nothing to look at.

    Args:
        checked: The run.

    Raises:
        UserError: INPUT cannot be read.
        OSError: OUTPUT cannot be read.
    """
    plan, source, selection = checked.plan, checked.source, checked.selection
    if plan is None:
        return [*selection.cuts(source, checked.listing.files)]
    assert checked.changes is not None, "INPUT was compared with the plan"
    cuts = rows_left(plan, committed_units(plan), source, checked.changes, selection)
    if source.kind in ROW_A_FILE:
        return _of_files(cuts, {*checked.changes.gone.to_pylist()}, checked.config.unit_rows)
    return sorted(cuts, key=lambda cut: (cut.files[0], cut.start))


def _of_files(cuts: Iterable[Cut], gone: Container[str], unit_rows: int) -> list[Cut]:
    """The files of some cuts that are still there, cut anew: new ones may lie between old ones."""
    paths = sorted(path for cut in cuts for path in cut.files if path not in gone)
    slices = cut_evenly(0, len(paths), unit_rows)
    return [Cut(files=tuple(paths[a:b]), start=0, stop=b - a) for a, b in slices]
