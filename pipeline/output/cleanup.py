"""What is removed once all work is committed, by the newest driver only.

An older driver that still runs may need its drafts, so those are removed only when they are old.
What it finds missing otherwise, it computes again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.output.journal import OF_RETRIES, OF_RUNS
from pipeline.output.parts import remove_part
from pipeline.output.plan import dropped_parts
from pipeline.output.profile_files import FOLDER as PROFILES
from pipeline.storage.atomic import remove_drafts, remove_folder
from pipeline.storage.location import INTERNAL

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pipeline.output.fencing import Epoch
    from pipeline.output.plan import Plan

OLD_S = 6 * 3600.0
"""Age from which a draft belongs to no process that still runs."""


def clean_up_run(plan: Plan, epoch: Epoch) -> None:
    """Remove what a run leaves behind, once all units are committed. Raises OSError.

    That is: parts whose rows are no longer in the planned input, journals of units that a slower
    driver computed as well, marks of poison rows, profiles of drivers that were killed, and drafts
    of processes that died.
    """
    if not epoch.is_newest:
        return
    for part in dropped_parts(plan):
        remove_part(plan.output / part)
    for folder in (OF_RUNS, "suspects", PROFILES):
        remove_folder(plan.output / INTERNAL / folder)
    remove_drafts(epoch.output, OLD_S)


def clean_up_retry(units: Iterable[str], epoch: Epoch) -> None:
    """Remove what a retry leaves behind, once all its rows are in their parts. Raises OSError.

    A run of the same OUTPUT may be unfinished: its journal and its marks of poison rows stay.

    Args:
        units: Ids of the units that rows were retried of.
        epoch: The retry's.
    """
    if not epoch.is_newest:
        return
    internal = epoch.output / INTERNAL
    remove_folder(internal / OF_RETRIES)
    remove_folder(internal / PROFILES)
    marked = {info.path.partition("/")[0] for info in (internal / "suspects").tree()}
    for unit_id in marked.intersection(units):
        remove_folder(internal / "suspects" / unit_id)
    remove_drafts(epoch.output, OLD_S)
