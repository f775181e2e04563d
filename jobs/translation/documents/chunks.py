"""Cuts one passage into parts that fit a budget of tokens.

Decides where: at the best place (`sentences`) in the second half of what fits, never inside of a
link, code or placeholder, nor inside of a character (a grapheme cluster), as long as these fit
themselves. Tokens are counted once for a part that fits at once, so a long text takes linear time.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import regex

from jobs.translation.documents import inline
from jobs.translation.documents.sentences import places

if TYPE_CHECKING:
    from jobs.translation.documents.sentences import Strength

Count = Callable[[str], int]
"""Tokens of a text."""

CHARACTER = regex.compile(r"\X")
LONGEST_CHARACTER = 64
"""Code points; whoever writes longer ones means no text by it."""
MARGIN = 0.95
LEFTOVER = 1.5
"""A rest of fewer budgets than this is halved, so that no few words are left over."""


def parts(text: str, language: str, budget: int, count: Count) -> Iterator[tuple[int, int]]:
    """The parts (start, end) of a text, in order, without white space at their ends.

    Args:
        text: Without white space at its ends.
        language: Code of its language.
        budget: Most tokens of a part.
        count: Says how many tokens a text has.
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
        if text[start:end].strip():
            yield _stripped(text, start, end)
            reach = max(1, int((end - start) / max(tokens, 1) * budget))
        start = end


class _Cutter:
    """A text and the places where it may be cut."""

    def __init__(self, text: str, language: str) -> None:
        self._text = text
        self._solid = inline.solid(text)
        self._solid_starts = [start for start, _ in self._solid]
        found = places(text, language)
        self._places = sorted(at for at in found if self._solid_at(at) is None)
        self._strengths: list[Strength] = [found[at] for at in self._places]

    def fitting(self, start: int, reach: int, budget: int, count: Count) -> tuple[int, int]:
        """The end of a part that fits, of about `reach` characters, and its tokens."""
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
        """The best place in (start, limit]."""
        last = bisect.bisect_right(self._places, limit)
        for least in (start + (limit - start) // 2, start):
            first = bisect.bisect_right(self._places, least)
            if first < last:
                window = range(first, last)
                return self._places[max(window, key=lambda at: (self._strengths[at], at))]
        return self._between_characters(start, limit)

    def _between_characters(self, start: int, limit: int) -> int:
        solid = self._solid_at(limit)
        if solid is not None and solid[0] > start:
            return solid[0]
        end = start
        for match in CHARACTER.finditer(self._text, start, limit + LONGEST_CHARACTER):
            if match.end() > limit:
                break
            end = match.end()
        return end if end > start else limit

    def _solid_at(self, at: int) -> tuple[int, int] | None:
        """What is not to be cut and has this place inside."""
        number = bisect.bisect_left(self._solid_starts, at) - 1
        if number >= 0 and self._solid[number][1] > at:
            return self._solid[number]
        return None


def _stripped(text: str, start: int, end: int) -> tuple[int, int]:
    part = text[start:end]
    start += len(part) - len(part.lstrip())
    return start, start + len(part.strip())
