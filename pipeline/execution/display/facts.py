"""What is known of a run at a moment: the figures that every form of display shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A run at a moment.

    Attributes:
        done: Rows that are finished, those that were there before this run included.
        total: Rows of the run.
        seconds: Since it began to be shown.
        there: Rows that were there before this run.
        failed_before: Those of them without results.
        outcomes: Rows of this run by outcome.
        rows_per_second: Over the last minute; 0 while that is not known, as are the next two.
        input_tokens_per_second: Tokens of prompts, soft tokens of images included.
        output_tokens_per_second: Generated tokens.
        seconds_left: Until all rows are finished, at this rate; None while that is not known.
        doing: What the run is doing, where that is not working on rows; empty otherwise.
        bound: What bounds it, see `profiling.bounds.Bound`; None while that is not known.
    """

    done: int
    total: int
    seconds: float
    there: int = 0
    failed_before: int = 0
    outcomes: Mapping[str, int] = field(default_factory=dict)
    rows_per_second: float = 0.0
    input_tokens_per_second: float = 0.0
    output_tokens_per_second: float = 0.0
    seconds_left: float | None = None
    doing: str = ""
    bound: str | None = None
