"""Whether an answer ran into a loop, and whether a text has runs that an answer may follow.

    the end repeats a text        the cat sat. Then, then, then, then, then, then, then, then, then
    all of it, or most, repeats   circle circle circle circle
    a sentence comes back         more than five times, and is half of the answer
    few words fill a long end     a circle and a Kreis and a circle, a Kreis and a circle and ...

What is translated may repeat itself too: an answer loops only where it does so more than twice as
often as its source. Counting marks, rules and tables as loops takes far more of them. Of 92,582
paragraphs of documentation 14 are taken for loops, all of them code (2026-11-29).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import regex

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")

LETTER = regex.compile(r"\p{L}")
WORD = regex.compile(r"[\p{L}\p{N}][\p{L}\p{M}\p{N}'’-]*")
IDEOGRAPH = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}]")

WINDOW = 4000
"""Characters at the end of an answer that are searched for a loop."""
SHORT_PERIOD = 20
"""Characters; a shorter period must be repeated more often to count as a loop."""
REPEATS_OF_SHORT = 12
REPEATS_OF_LONG = 4
LOOP_LENGTH = 60
"""Least characters of a loop, all repeats together."""
LOOP_LENGTH_OF_MARKS = 300
"""The same where the period has no letter: rules and tables repeat marks too."""

WINDOW_OF_WORDS = 60
REPEATS_OF_WHOLE = 4
"""How often an answer must repeat itself that is nothing but the loop."""
REPEATS_OF_HALF = 6
"""The same where the loop is only half of its words or more."""
LETTERS_OF_PERIOD = 4
"""`ha ha ha ha` and `no, no, no, no` are people's own words. An ideograph counts as two."""

FEWEST_WORDS = 24
"""Words of an end that is judged by how many different ones it has."""
WORDS_PER_DIFFERENT_WORD = 6
"""Prose has one to two."""

SENTENCE = regex.compile(r"[^.!?。！？।؟\n]{20,}")
REPEATS_OF_SENTENCE = 6

LONGEST_OF_RUN = 25
"""Characters of what comes back in a run, at most."""
NO_SPACE = regex.compile(r"\S")


def is_repetitive(text: str, source: str = "") -> bool:
    """Whether an answer ran into a loop: its end, or most of it, is one text over and over.

    Args:
        text: The answer.
        source: The text that was translated; the answer may repeat itself twice as often.
    """
    words = _last_words(text)
    sentence, times = _commonest_sentence(text)
    is_most = times * len(sentence) * 2 >= len(text)
    most = max(
        _repeats_at_end(text),
        _repeats_of_words(words),
        times if times >= REPEATS_OF_SENTENCE and is_most else 0,
    )
    sameness = _sameness(words)
    if not most and sameness < WORDS_PER_DIFFERENT_WORD:  # nearly every answer
        return False
    words_of_source = _last_words(source)
    followed = max(
        _runs_at_end(source), _times_at_end(words_of_source)[0], _commonest_sentence(source)[1]
    )
    if most and most > 2 * followed:
        return True
    return sameness >= WORDS_PER_DIFFERENT_WORD and sameness > 2 * max(
        _sameness(words_of_source), followed
    )


def has_run(text: str) -> bool:
    """Whether a text has something twelve times in a row, as a rule or a table may."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    return any(_has_run_of(period, codes, text) for period in range(1, LONGEST_OF_RUN + 1))


def _has_run_of(period: int, codes: np.ndarray, text: str) -> bool:
    """Whether so many characters, the first of which is no space, come back often enough."""
    same = codes[period:] == codes[:-period]
    least = (REPEATS_OF_SHORT - 1) * period
    if np.count_nonzero(same) < least:
        return False
    ends = np.concatenate([[-1], np.flatnonzero(~same), [len(same)]])
    lengths = np.diff(ends) - 1
    long = lengths >= least
    begins = zip((ends[:-1][long] + 1).tolist(), (lengths[long] - least).tolist(), strict=True)
    return any(NO_SPACE.search(text, begin, begin + more + 1) for begin, more in begins)


def _repeats_at_end(text: str) -> int:
    """How many times the end of a text repeats in a row; 0 where that is not a loop."""
    end = _end(text)
    # All of a loop but its last repeat, a quarter of it at most, comes back one period later.
    if end.find(end[: LOOP_LENGTH - LOOP_LENGTH // REPEATS_OF_LONG], 1) == -1:
        return 0
    best = 0
    for length, border in enumerate(_borders(end), 1):
        period = length - border
        repeats = length // period
        enough = REPEATS_OF_SHORT if period < SHORT_PERIOD else REPEATS_OF_LONG
        if repeats < enough or length < LOOP_LENGTH:
            continue
        if length >= LOOP_LENGTH_OF_MARKS or LETTER.search(end, 0, period) is not None:
            best = max(best, repeats)
    return best


def _runs_at_end(text: str) -> int:
    """How many times the end of a text repeats, however short, where that is half of it or more."""
    end = _end(text)
    return max(
        (
            length // (length - border)
            for length, border in enumerate(_borders(end), 1)
            if 2 * length >= min(len(end), LOOP_LENGTH)
        ),
        default=0,
    )


def _end(text: str) -> str:
    """The last characters of a text on one line, backwards."""
    return " ".join(text.casefold().split())[: -WINDOW - 1 : -1]


def _last_words(text: str) -> list[str]:
    words: list[str] = WORD.findall(text[-WINDOW:].casefold())
    return words[-WINDOW_OF_WORDS:]


def _repeats_of_words(words: Sequence[str]) -> int:
    """How many times the words at the end repeat; 0 where that is not a loop."""
    repeats, period = _times_at_end(words)
    looped = repeats * period
    enough = REPEATS_OF_WHOLE if looped + period > len(words) else REPEATS_OF_HALF
    once = "".join(words[len(words) - period :])
    letters = len(LETTER.findall(once)) + len(IDEOGRAPH.findall(once))
    is_loop = repeats >= enough and 2 * looped >= len(words) and letters >= LETTERS_OF_PERIOD
    return repeats if is_loop else 0


def _times_at_end(words: Sequence[str]) -> tuple[int, int]:
    """How many times the words at the end repeat in a row, at most, and the words of one time."""
    best = (min(len(words), 1), len(words))
    for length, border in enumerate(_borders(words[::-1]), 1):
        period = length - border
        best = max(best, (length // period, period))
    return best


def _sameness(words: Sequence[str]) -> float:
    """Words for each different word at the end of a text; 0 where it is short, or numbers."""
    lettered = sum(LETTER.search(word) is not None for word in words)
    return len(words) / len(set(words)) if lettered >= FEWEST_WORDS else 0.0


def _borders(items: Sequence[T] | str) -> list[int]:
    """For each prefix, the length of its longest proper prefix that is also its suffix (KMP)."""
    borders = [0] * len(items)
    for at in range(1, len(items)):
        border = borders[at - 1]
        while border and items[at] != items[border]:
            border = borders[border - 1]
        borders[at] = border + (items[at] == items[border])
    return borders


def _commonest_sentence(text: str) -> tuple[str, int]:
    sentences = (" ".join(found.split()).casefold() for found in SENTENCE.findall(text))
    counted = Counter(sentence for sentence in sentences if LETTER.search(sentence))
    return counted.most_common(1)[0] if counted else ("", 0)
