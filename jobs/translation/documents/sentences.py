"""Where a text may be cut, and how good a place each is: after a paragraph, a sentence, a clause.

Decides the order of places; where sentences end, in about 300 languages, is sentencex's. Scripts
without spaces (Chinese, Japanese, Thai) have their own marks, and where there is none, nothing here
either: `chunks` then cuts between characters.
"""

from __future__ import annotations

import re
from enum import IntEnum

from jobs.translation.documents.passages import BLANK_LINE, BREAK

CLAUSE = re.compile(r"[,;:،؛՝–—―…)\]”»](?=\s)\s*|[、，；：·」』）】》]")
SPACE = re.compile(r"\s+")
WHITE = re.compile(r"[^\S ]")
SURROGATE = re.compile("[\ud800-\udfff]")


class Strength(IntEnum):
    """How good a place is."""

    SPACE = 1
    CLAUSE = 2
    LINE = 3
    SENTENCE = 4
    PARAGRAPH = 5


def places(text: str, language: str) -> dict[int, Strength]:
    """Where the text may be cut: after white space, or after a mark where none follows."""
    found = {match.end(): Strength.SPACE for match in SPACE.finditer(text)}
    found |= {match.end(): Strength.CLAUSE for match in CLAUSE.finditer(text)}
    breaks = [(match.end(), match.group()) for match in BREAK.finditer(text)]
    found |= {end: Strength.LINE for end, _ in breaks}
    paragraphs = [end for end, between in breaks if BLANK_LINE.search(between)]
    start = 0
    for end in [*paragraphs, len(text)]:
        ends = sentence_ends(text[start:end], language)
        found |= {start + one: Strength.SENTENCE for one in ends}
        start = end
    return found | dict.fromkeys(paragraphs, Strength.PARAGRAPH)


def sentence_ends(paragraph: str, language: str) -> list[int]:
    """Where the sentences of a paragraph end, white space after them included.

    Every white space is shown to sentencex as a space: over line breaks it loses text, and before
    wider ones it fails (1.0.32, `language.rs:829`, on "B", an ideographic space and ".").
    """
    import sentencex

    masked = SURROGATE.sub("\ufffd", WHITE.sub(" ", paragraph))
    ends, at = [], 0
    for sentence in sentencex.segment(language.split("-", maxsplit=1)[0], masked):
        at += len(sentence)
        ends.append(at)
    assert at == len(paragraph), "sentencex gives back what it was given"
    return ends
