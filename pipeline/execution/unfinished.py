"""What a run says at its end of units that could not be finished, and how to go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.contract.errors import shortened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.sources.units import Work

Failed = tuple["Work", str]
"""Work, and why it could not be finished."""


def describe_unfinished(
    unreadable: Sequence[Failed], uncommitted: Sequence[Failed], *, is_pinned: bool = False
) -> str:
    """The message of the error that ends the run, on two or more lines.

    Args:
        unreadable: Work whose input files cannot be read.
        uncommitted: Work whose rows are finished and cannot be written.
        is_pinned: Whether the run reads one commit of INPUT, whatever is mended since.
    """
    lines = []
    if unreadable:
        files = dict.fromkeys(path for work, _ in unreadable for path in work.unit.files)
        lines += [
            f"{_rows(unreadable)} wait for input files that cannot be read ({shortened([*files])}),"
            f" all others are finished: {unreadable[0][1]}",
            "Repair the files and run the same command again; or take them out of INPUT first, to "
            "go on without their rows.",
        ]
        if is_pinned:
            lines.append(
                "A run keeps to the commit that it began with; name the one that is mended: "
                "hf://datasets/OWNER/NAME@main."
            )
    if uncommitted:
        work, fault = uncommitted[0]
        lines += [
            f"{_rows(uncommitted)} of {len(uncommitted)} unit(s) could not be written: "
            f"{work.unit.name}: {fault}",
            "Fix the cause and run the same command again.",
        ]
    return "\n".join(lines)


def _rows(failed: Sequence[Failed]) -> str:
    return f"{sum(work.rows for work, _ in failed):,} row(s)"
