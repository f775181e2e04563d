"""Decides which words of two texts differ.

A word is a run of letters or digits; in scripts that are written without spaces (Thai, Chinese,
Japanese and others) it is one character as people see it. White space and every other sign is a
word of its own.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import regex

DENSE = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}"
WORD = regex.compile(rf"\s+|(?=[{DENSE}])\X|(?:(?![{DENSE}])[\p{{L}}\p{{M}}\p{{N}}_])+|\X")
MOST_WORDS = 3000
"""Longer texts are compared at their ends only: the time grows with the square."""


class Kind(StrEnum):
    """What became of words."""

    SAME = "same"
    REMOVED = "removed"
    ADDED = "added"


@dataclass(frozen=True, slots=True)
class Piece:
    """Words that follow each other and became the same."""

    kind: Kind
    text: str


def differing_words(before: str, after: str) -> list[Piece]:
    """The pieces of two texts.

    Without those that were added they are the first, without those that were removed the second.
    """
    one, other = WORD.findall(before), WORD.findall(after)
    start = _common(one, other)
    end = _common(one[start:][::-1], other[start:][::-1])
    pieces = [Piece(Kind.SAME, "".join(one[:start]))]
    pieces += _middle(one[start : len(one) - end], other[start : len(other) - end])
    pieces.append(Piece(Kind.SAME, "".join(one[len(one) - end :])))
    return [piece for piece in pieces if piece.text]


def around_change(before: str, after: str, longest: int) -> tuple[str, str]:
    """Two texts, cut where one is longer than so many characters: around where they differ first.

    Where one was cut it has `…` in place of what is missing.
    """
    if max(len(before), len(after)) <= longest:
        return before, after
    same = _common(before, after)
    begin = max(0, same - longest // 2) if before != after else 0
    ends = [f"…{text[begin + 1 :]}" if begin else text for text in (before, after)]
    one, other = (end if len(end) <= longest else f"{end[: longest - 1]}…" for end in ends)
    return one, other


def _middle(one: list[str], other: list[str]) -> list[Piece]:
    if max(len(one), len(other)) > MOST_WORDS:
        return [Piece(Kind.REMOVED, "".join(one)), Piece(Kind.ADDED, "".join(other))]
    pieces: list[Piece] = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, one, other, False).get_opcodes():
        if kind == "equal":
            pieces.append(Piece(Kind.SAME, "".join(one[a:b])))
            continue
        pieces.append(Piece(Kind.REMOVED, "".join(one[a:b])))
        pieces.append(Piece(Kind.ADDED, "".join(other[c:d])))
    return pieces


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """How many words, or characters, they begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))
