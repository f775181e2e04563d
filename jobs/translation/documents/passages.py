"""A passage: lines of a document that are translated together.

The white space and marks between the lines (`> `, say) are shown to the model as line breaks;
`put_back` puts the document's own back into the translation. Which lines make a passage is decided
in `markup`, how it is cut in `chunks`.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import re
from dataclasses import dataclass
from enum import Enum

BREAK = re.compile(r"(?<!\s)[^\S\r\n]*(?:\r\n|\r|\n)\s*")
"""A line break with all white space around it; a run of white space has at most one match."""
BLANK_LINE = re.compile(r"(?:\r\n|\r|\n)[^\S\r\n]*(?:\r\n|\r|\n)")
BARE_PIPE = re.compile(r"(?<!\\)\|")


class Kind(Enum):
    """Where a passage stands, which decides whether its translation may have line breaks."""

    PARAGRAPH = "paragraph"
    """On the top level: any number of lines."""
    NESTED = "nested"
    """In a list, a quote or HTML: each line must begin as the lines of the source do."""
    LINE = "line"
    """A heading: no more lines than the source."""
    CELL = "cell"
    """A table's cell: one line, without a bare pipe."""


@dataclass(frozen=True)
class Span:
    """Part of one line of the document, by its offsets, without white space at its ends."""

    start: int
    end: int


@dataclass(frozen=True)
class Passage:
    """Lines that are translated together.

    Attributes:
        document: The whole document.
        kind: Where the passage stands.
        spans: Its lines, or the part of each that is text, in order.
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
        """What is between the lines in the document: white space, and marks like `> `."""
        pairs = itertools.pairwise(self.spans)
        return tuple(self.document[line.end : following.start] for line, following in pairs)

    @functools.cached_property
    def text(self) -> str:
        """What a model reads: the lines, with the document's breaks where these have no marks."""
        if all(BREAK.fullmatch(between) for between in self.breaks):
            return self.document[self.start : self.end]
        pieces = []
        for span, between in zip(self.spans, (*self.breaks, ""), strict=True):
            pieces.append(self.document[span.start : span.end])
            pieces.append(between if BREAK.fullmatch(between) else "\n" * bool(between))
        return "".join(pieces)

    def in_document(self, at: int) -> int:
        """The document's offset for an offset in `text` that is within a line or at its ends."""
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
    """The translation with the document's own breaks between its lines.

    With as many lines as the source, it gets the source's breaks in order. With as many paragraphs
    only, the breaks between paragraphs are the source's in order. Otherwise each break becomes the
    source's last one of its kind (between lines, or between paragraphs).

    Args:
        translation: A model's answer for a passage or a part of it.
        kind: The passage's kind.
        breaks: The document's breaks within what was translated.
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
        breaks = _matching_breaks(found, breaks, newline)
    lines = BREAK.split(text)
    return "".join(line + between for line, between in zip(lines, (*breaks, ""), strict=True))


def _matching_breaks(found: list[str], breaks: tuple[str, ...], newline: str) -> tuple[str, ...]:
    """One of the source's breaks for each break in the translation."""
    between_lines = [own for own in breaks if not BLANK_LINE.search(own)]
    between_paragraphs = [own for own in breaks if BLANK_LINE.search(own)]
    is_blank = [BLANK_LINE.search(one) is not None for one in found]
    line = between_lines[-1] if between_lines else newline
    if sum(is_blank) == len(between_paragraphs):
        paragraphs = iter(between_paragraphs)
        return tuple(next(paragraphs) if blank else line for blank in is_blank)
    paragraph = between_paragraphs[-1] if between_paragraphs else line + line
    return tuple(paragraph if blank else line for blank in is_blank)
