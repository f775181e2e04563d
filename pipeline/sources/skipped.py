"""Decides how files of an INPUT that are not read are counted and named."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

EXAMPLES = 3
"""Names that are kept for each reason, however many files there are."""


class Reason(StrEnum):
    """Why a file is not read, as it follows the number of files in a message."""

    OTHER_KIND = "of another format than the others"
    OTHER_IMAGE = "of an image format that cannot be read"
    UNKNOWN = "of no known format"
    EMPTY = "empty"
    NAME = "with a name that is not UTF-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """Files of an INPUT that are not read, for one reason.

    Attributes:
        reason: Why.
        count: How many.
        examples: Paths of the first few, relative to INPUT.
    """

    reason: Reason
    count: int
    examples: tuple[str, ...]


class SkippedFiles:
    """Counts files that are not read. Memory holds a few names."""

    def __init__(self) -> None:
        self._counts: dict[Reason, int] = {}
        self._examples: dict[Reason, list[str]] = {}

    def add(self, reason: Reason, path: str) -> None:
        """Count a file."""
        self._counts[reason] = self._counts.get(reason, 0) + 1
        examples = self._examples.setdefault(reason, [])
        if len(examples) < EXAMPLES:
            examples.append(path.encode(errors="surrogateescape").decode(errors="replace"))

    def found(self) -> tuple[Skipped, ...]:
        """All that were counted, in the order of `Reason`."""
        return tuple(
            Skipped(reason=reason, count=count, examples=tuple(self._examples[reason]))
            for reason in Reason
            if (count := self._counts.get(reason))
        )
