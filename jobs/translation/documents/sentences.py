"""Where a text may be cut, best after a paragraph, then after a sentence, a line, a clause, a word.

The package sentencex knows where sentences end in about 300 languages. Scripts without spaces
(Chinese, Japanese, Thai) are cut at their own punctuation; where there is none, `chunks` cuts
between characters.
"""

from __future__ import annotations

import re
from enum import IntEnum

from jobs.translation.documents import inline
from jobs.translation.documents.passages import BLANK_LINE, BREAK

CLAUSE = re.compile(r"[,;:،؛՝–—―…)\]”»](?=\s)\s*|[、，；：·」』）】》]")
SPACE = re.compile(r"\s+")
WHITE = re.compile(r"[^\S ]")


class Strength(IntEnum):
    """How good a place for a cut is; higher is better."""

    SPACE = 1
    CLAUSE = 2
    LINE = 3
    SENTENCE = 4
    PARAGRAPH = 5


def cut_points(text: str, language: str) -> dict[int, Strength]:
    """Offsets where the text may be cut: after white space, or after punctuation without any."""
    found = {match.end(): Strength.SPACE for match in SPACE.finditer(text)}
    found |= {match.end(): Strength.CLAUSE for match in CLAUSE.finditer(text)}
    breaks = [(match.end(), match.group()) for match in BREAK.finditer(text)]
    found |= {end: Strength.LINE for end, _ in breaks}
    paragraphs = [end for end, between in breaks if BLANK_LINE.search(between)]
    start = 0
    for end in [*paragraphs, len(text)]:
        ends = sentence_ends(text[start:end], language)
        found |= {start + at: Strength.SENTENCE for at in ends}
        start = end
    return found | dict.fromkeys(paragraphs, Strength.PARAGRAPH)


def sentence_ends(paragraph: str, language: str) -> list[int]:
    """The offsets where the sentences of a paragraph end, after the white space that follows them.

    sentencex (1.0.32) is given a plain space in place of any other white space: it loses text at
    line breaks, and fails before wider ones (`language.rs:829`, on "B", an ideographic space and
    "."). wikimedia/sentencex PR #65 fixed two such faults; this can go once all text is returned.
    """
    import sentencex

    masked = inline.SURROGATE.sub("\ufffd", WHITE.sub(" ", paragraph))
    ends, at = [], 0
    for sentence in sentencex.segment(language.split("-", maxsplit=1)[0], masked):
        at += len(sentence)
        ends.append(at)
    assert at == len(paragraph), "sentencex returns all text that it is given"
    return ends
