"""Decides which outcome an answer in text has that is no result, and what its error says."""

from __future__ import annotations

from jobs.answers.refusal import is_refusal
from jobs.answers.repetition import is_repetitive
from pipeline import Outcome, RowError

EXCERPT = 60
"""Most characters of an answer that are quoted in an error."""


def fault_of(
    answer: str, source: str | None = None, *, ended_as_loop: bool = False, quotes: bool = False
) -> RowError | None:
    """What is wrong with an answer as a whole: it is empty, a loop, or declines the request.

    Args:
        answer: The answer.
        source: The text that it translates; None where it describes something.
        ended_as_loop: Whether the engine ended it because it repeated itself.
        quotes: Whether it is what is written in an image, if anything: a sign may decline, ask for
            an image and repeat itself.
    """
    if ended_as_loop or (not quotes and is_repetitive(answer, source or "")):
        message = f"the answer repeats itself: {excerpt(answer[-EXCERPT:])}"
        return RowError(Outcome.REPETITION, "parse", message)
    if quotes:
        return None
    if not answer.strip():
        return RowError(Outcome.REFUSED, "parse", "the answer is empty")
    if is_refusal(answer, source):
        message = f"the answer declines the request: {excerpt(answer)}"
        return RowError(Outcome.REFUSED, "parse", message)
    return None


def excerpt(text: str) -> str:
    """The beginning of a text on one line, in quotes."""
    line = " ".join(text.split())
    return repr(line if len(line) <= EXCERPT else line[: EXCERPT - 1] + "…")
