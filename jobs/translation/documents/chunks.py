"""Cuts one passage into parts that fit a budget of tokens.

The cut is at the best place (`sentences`) in the second half of what fits, and never inside of a
link, code, a placeholder or a grapheme cluster that would fit by itself. Most parts fit at the
first try, so their tokens are counted once and a long text takes linear time.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import regex

from jobs.translation.documents import inline
from jobs.translation.documents.sentences import cut_points

if TYPE_CHECKING:
    from jobs.translation.documents.sentences import Strength

Count = Callable[[str], int]
"""Counts the tokens of a text."""

CHARACTER = regex.compile(r"\X")
LONGEST_CHARACTER = 64
"""Code points of a grapheme cluster; real text has no longer ones."""
MARGIN = 0.95
"""A part that was too long is shortened by its excess, and then by this factor."""
LEFTOVER = 1.5
"""A rest that is shorter than this many parts is halved, so that no few words are left over."""


def split(text: str, language: str, budget: int, count: Count) -> Iterator[tuple[int, int]]:
    """The parts (start, end) of a text, in order, without white space at their ends.

    Args:
        text: Text without white space at its ends.
        language: Code of its language.
        budget: Most tokens in a part.
        count: Counts the tokens of a text.
    """
    tokens = count(text)
    if tokens <= budget:
        yield 0, len(text)
        return
    cutter = _Cutter(text, language)
    reach = max(1, int(len(text) / tokens * budget))
    start = 0
    while start < len(text):
        end, tokens = cutter.fitting(start, reach, budget, count)
        part = text[start:end]
        if part.strip():
            first = start + len(part) - len(part.lstrip())
            yield first, first + len(part.strip())
            reach = max(1, int((end - start) / max(tokens, 1) * budget))
        start = end


class _Cutter:
    """A text and the places where it may be cut."""

    def __init__(self, text: str, language: str) -> None:
        self._text = text
        self._uncut = inline.uncut_spans(text)
        self._uncut_starts = [start for start, _ in self._uncut]
        found = cut_points(text, language)
        self._cut_points = sorted(at for at in found if self._uncut_around(at) is None)
        self._strengths: list[Strength] = [found[at] for at in self._cut_points]

    def fitting(self, start: int, reach: int, budget: int, count: Count) -> tuple[int, int]:
        """The end and the tokens of a part that fits; about `reach` characters probably do."""
        left = len(self._text) - start
        if reach < left < LEFTOVER * reach:
            reach = int(left / 2 * 1.25)
        while True:
            end = len(self._text) if reach >= left else self._best(start, start + reach)
            tokens = count(self._text[start:end].strip())
            if tokens <= budget or end - start == 1:
                return end, tokens
            reach = max(1, min(int((end - start) * budget / tokens * MARGIN), end - start - 1))

    def _best(self, start: int, limit: int) -> int:
        """The best place for a cut in (start, limit]."""
        last = bisect.bisect_right(self._cut_points, limit)
        for least in (start + (limit - start) // 2, start):
            first = bisect.bisect_right(self._cut_points, least)
            if first < last:
                window = range(first, last)
                return self._cut_points[max(window, key=lambda at: (self._strengths[at], at))]
        return self._between_characters(start, limit)

    def _between_characters(self, start: int, limit: int) -> int:
        """The last place up to `limit` before an uncut span or a grapheme cluster, if any."""
        uncut = self._uncut_around(limit)
        if uncut is not None and uncut[0] > start:
            return uncut[0]
        end = start
        for match in CHARACTER.finditer(self._text, start, limit + LONGEST_CHARACTER):
            if match.end() > limit:
                break
            end = match.end()
        return end if end > start else limit

    def _uncut_around(self, at: int) -> tuple[int, int] | None:
        """The span that should not be cut and has this place inside."""
        number = bisect.bisect_left(self._uncut_starts, at) - 1
        if number >= 0 and self._uncut[number][1] > at:
            return self._uncut[number]
        return None
