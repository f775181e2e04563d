"""Which rows of INPUT a run takes: those of a condition, the first, or some drawn at random.

    condition  the language of `--where`: from text to a tree
    filters    a condition against the input's columns: what is wrong with it, which rows match
    exact      how integers and decimals are compared
    matches    which rows of a file match, reading as little of it as that takes
    sampling   rows drawn at random: the same ones however the input is cut
    chosen     rows that somebody has chosen before
    selection  all of it together: from files to the cuts that a plan is made of
    taken      a unit's rows without those that are not taken
    values     which values are missing (`--missing`)

Which rows are taken is decided once, while planning, and is in the plan: a bit for each row of a
unit. Later files are selected from as they come.
"""

from __future__ import annotations

from pipeline.sources.selection.chosen import Chosen
from pipeline.sources.selection.filters import Filter
from pipeline.sources.selection.selection import ALL_ROWS, Selection
from pipeline.sources.selection.taken import passthrough_taken, read_taken
from pipeline.sources.selection.values import are_missing

__all__ = [
    "ALL_ROWS",
    "Chosen",
    "Filter",
    "Selection",
    "are_missing",
    "passthrough_taken",
    "read_taken",
]
