"""A passage: text of a document that is translated together, and where its lines are.

Decides what of the white space and marks between the lines of a passage is shown to the model (a
line break) and how the document's own comes back afterwards. Which lines are a passage is
`markup`'s, into which chunks it is cut `chunks`'.
"""

from __future__ import annotations

import bisect
import functools
import re
from dataclasses import dataclass
from enum import Enum

BREAK = re.compile(r"(?<!\s)[^\S\r\n]*(?:\r\n|\r|\n)\s*")
"""A line break with all white space around it; looked for once in a run of white space."""
BLANK_LINE = re.compile(r"(?:\r\n|\r|\n)[^\S\r\n]*(?:\r\n|\r|\n)")
BARE_PIPE = re.compile(r"(?<!\\)\|")


class Kind(Enum):
    """Where a passage stands, which says what a line break in its translation would do."""

    PARAGRAPH = "paragraph"
    """On the top level; line breaks are free."""
    NESTED = "nested"
    """In a list, a quote or HTML: a line begins with what the lines of the source begin with."""
    LINE = "line"
    """A heading: no more lines than it has."""
    CELL = "cell"
    """Of a table: one line, and no bare pipe."""


@dataclass(frozen=True)
class Span:
    """Part of one line of the document, without white space at its ends."""

    start: int
    end: int


@dataclass(frozen=True)
class Passage:
    """Lines that are translated together.

    Attributes:
        document: The whole document.
        kind: Where the passage stands.
        spans: Its lines, or what of them is text, in order.
    """

    document: str
    kind: Kind
    spans: tuple[Span, ...]

    @property
    def start(self) -> int:
        """Where it begins in the document."""
        return self.spans[0].start

    @property
    def end(self) -> int:
        """Where it ends in the document."""
        return self.spans[-1].end

    @functools.cached_property
    def breaks(self) -> tuple[str, ...]:
        """What stands between the lines in the document: white space, and marks like `> `."""
        pairs = zip(self.spans, self.spans[1:], strict=False)
        return tuple(self.document[one.end : other.start] for one, other in pairs)

    @functools.cached_property
    def text(self) -> str:
        """What a model reads: lines, with the document's breaks where they are white space."""
        if all(BREAK.fullmatch(between) for between in self.breaks):
            return self.document[self.start : self.end]
        pieces = []
        for span, between in zip(self.spans, (*self.breaks, ""), strict=True):
            pieces.append(self.document[span.start : span.end])
            pieces.append(between if BREAK.fullmatch(between) else "\n" * bool(between))
        return "".join(pieces)

    def in_document(self, at: int) -> int:
        """The place in the document of a place in `text` that is within a line or at its ends."""
        line = bisect.bisect_right(self._line_starts, at) - 1
        span = self.spans[line]
        return min(span.start + at - self._line_starts[line], span.end)

    def breaks_between(self, start: int, end: int) -> tuple[str, ...]:
        """The document's breaks within a part of `text`."""
        first = bisect.bisect_right(self._line_starts, start) - 1
        last = bisect.bisect_left(self._line_starts, end) - 1
        return self.breaks[first:last]

    @functools.cached_property
    def _line_starts(self) -> list[int]:
        starts, at = [], 0
        for span, between in zip(self.spans, (*self.breaks, ""), strict=True):
            starts.append(at)
            shown = between if BREAK.fullmatch(between) else "\n"
            at += span.end - span.start + len(shown)
        return starts


def put_back(translation: str, kind: Kind, breaks: tuple[str, ...], newline: str) -> str:
    """A translation with the document's own breaks.

    Where it has as many lines as the source, these have the source's breaks; else where it has as
    many paragraphs, the paragraphs have; else each break gets one of the source's that is alike.

    Args:
        translation: A model's answer for a passage or a part of it.
        kind: The passage's.
        breaks: The document's, within what was translated.
        newline: The document's line break.
    """
    text = translation.strip()
    if kind is Kind.CELL:
        text = BARE_PIPE.sub(r"\|", text)
    if not breaks and kind is not Kind.PARAGRAPH:
        return BREAK.sub(" ", text)
    found = BREAK.findall(text)
    if len(found) != len(breaks):
        if kind is Kind.LINE:
            return BREAK.sub(" ", text)
        breaks = _alike(found, breaks, newline)
    lines = BREAK.split(text)
    return "".join(line + between for line, between in zip(lines, (*breaks, ""), strict=True))


def _alike(found: list[str], breaks: tuple[str, ...], newline: str) -> tuple[str, ...]:
    between_lines = [one for one in breaks if not BLANK_LINE.search(one)]
    between_paragraphs = [one for one in breaks if BLANK_LINE.search(one)]
    blank = [one for one in found if BLANK_LINE.search(one)]
    line = between_lines[-1] if between_lines else newline
    if len(blank) == len(between_paragraphs):
        paragraphs = iter(between_paragraphs)
        return tuple(next(paragraphs) if BLANK_LINE.search(one) else line for one in found)
    paragraph = between_paragraphs[-1] if between_paragraphs else line + line
    return tuple(paragraph if BLANK_LINE.search(one) else line for one in found)
