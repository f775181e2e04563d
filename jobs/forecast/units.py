"""Which rows a run has to compute: those of its input, without what OUTPUT has already."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from pipeline.output.counts import committed_units

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.execution.preparation import CheckedRun
    from pipeline.sources.units import Cut


def units_left(checked: CheckedRun) -> list[Cut]:
    """The units that a run would plan or has planned, and has not committed, in order of files.

    Nothing is written. Of a unit that is begun all rows count as left, and so do all rows of a file
    that has changed.

    Args:
        checked: The run.

    Raises:
        UserError: INPUT cannot be read.
        OSError: OUTPUT cannot be read.
    """
    plan, changes = checked.plan, checked.changes
    if plan is None:
        return [*checked.selection.cuts(checked.source, checked.listing.files)]
    planned = (plan.unit(int(index)) for index in plan.pending(committed_units(plan)))
    cuts: Iterator[Cut] = iter(planned)
    if changes:
        new = checked.selection.cuts(checked.source, changes.new, plan.total_rows)
        changed = checked.selection.cuts(checked.source, changes.changed)
        cuts = itertools.chain(cuts, new, changed)
    return sorted(cuts, key=lambda cut: (cut.files[0], cut.start))
