"""What is cleaned up after a run, by the newest driver only: nobody else may need it.

Journals of committed units that a slower driver left, marks of poison_rows, drafts of processes that
died, and parts whose rows are no longer in the input's planned files. What is young may belong to a
driver that still runs, and stays.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from pipeline.output.plan import dropped_parts
from pipeline.storage.atomic import remove, remove_folder
from pipeline.storage.location import INTERNAL

if TYPE_CHECKING:
    from pipeline.output.fencing import Epoch
    from pipeline.output.plan import Plan

OLD_S = 6 * 3600.0
"""Drafts that are older belong to nobody."""


def clean_up(plan: Plan, epoch: Epoch) -> None:
    """Clean up after a run whose units are all committed."""
    if not epoch.is_newest:
        return
    for part in dropped_parts(plan):
        remove(plan.output / part)
    for folder in ("journal", "suspects", "probe"):
        remove_folder(plan.output / INTERNAL / folder)
    if plan.output.is_local:
        _remove_old_drafts(os.path.join(plan.output.path, INTERNAL, "drafts"))


def _remove_old_drafts(folder: str) -> None:
    if not os.path.isdir(folder):
        return
    with os.scandir(folder) as drafts:
        for draft in drafts:
            if time.time() - draft.stat().st_mtime > OLD_S:
                os.unlink(draft.path)
