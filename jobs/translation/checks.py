"""What an answer must have kept of its source, and whether it ran into a loop.

Decides, from the inline things of both texts (`documents.inline`), what counts as lost: a number
may be written as the other language does, a tag with other white space; everything else must be
there letter for letter, and as often. Which outcome that gives is the task's to say.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from jobs.translation.documents import inline
from jobs.translation.documents.passages import BLANK_LINE

EXACT = ("code", "url", "tag", "placeholder", "emoji")
MARKS = re.compile(r"\*\*|~~|(?<!\w)__(?=\w)|(?<=\w)__(?!\w)")
PARAGRAPH_BREAK = "paragraph break"

THOUSAND = 3
"""Digits of a group."""

WINDOW = 4000
"""Characters at the end of an answer in which a loop is looked for."""
SHORT_PERIOD = 20
REPEATS_OF_SHORT = 12
REPEATS_OF_LONG = 4
LOOP_LENGTH = 60
"""A loop: the end of the answer is the same words (so many times over), at least so long."""
LOOP_LENGTH_OF_MARKS = 300
SENTENCE = re.compile(r"[^.!?。！？।؟\n]{20,}")
REPEATS_OF_SENTENCE = 6
LETTER = inline.LETTER

Readings = frozenset[str]
"""What a written number can mean: `1.234` is 1234 in German and 1.234 in English."""


def lost(source: str, target: str, *, glossary_terms: Iterable[tuple[str, str]] = ()) -> list[str]:
    """What had to survive a translation and did not, as often as it is missing.

    Args:
        source: The text that was translated.
        target: Its translation.
        glossary_terms: Terms in the source, each with the translation it should have.

    Returns:
        Things as the source has them, `**` and `paragraph break` for marks, and `term -> its
        translation`; nothing where all is there.
    """
    missing = _exact(source) - _exact(target)
    numbers = _lost_numbers(_numbers(source), _numbers(target))
    folded = target.casefold()
    terms = [f"{term} -> {said}" for term, said in glossary_terms if said.casefold() not in folded]
    return [*missing.elements(), *numbers, *terms]


def is_repetitive(text: str, source: str = "") -> bool:
    """Whether an answer ran into a loop: its end, or most of it, is the same again and again.

    Args:
        text: The answer.
        source: What was translated; where it repeats itself as often, the answer may.
    """
    repeats = _repeats_at_end(text)
    if repeats and repeats > 2 * _repeats_at_end(source):
        return True
    sentence, times = _commonest_sentence(text)
    if times < REPEATS_OF_SENTENCE or times * len(sentence) * 2 < len(text):
        return False
    return times > 2 * _commonest_sentence(source)[1]


def _exact(text: str) -> Counter[str]:
    things = Counter(
        " ".join(thing.split()) if kind == "tag" else thing
        for kind, thing in inline.found(text)
        if kind in EXACT
    )
    marks = Counter(MARKS.findall(inline.words(text)))
    breaks = len(BLANK_LINE.findall(text.strip()))
    return things + marks + Counter({PARAGRAPH_BREAK: breaks})


def _numbers(text: str) -> list[str]:
    numbers = (thing for kind, thing in inline.found(text) if kind == "number")
    return [part for number in numbers for part in _parts(number)]


def _parts(number: str) -> list[str]:
    """A date or a version (`4.3.2024`) gives several numbers, as `2024-03-04` does."""
    parts = number.split(".")
    grouped = all(len(part) == THOUSAND for part in parts[1:])
    return [number] if len(parts) <= 2 or grouped else parts  # noqa: PLR2004  one point: a decimal


def _lost_numbers(source: Sequence[str], target: Sequence[str]) -> Iterator[str]:
    """Numbers of the source without one in the target that can mean the same."""
    left = Counter(_readings(number) for number in target)
    unmatched = []
    for number in source:
        readings = _readings(number)
        if left[readings]:
            left[readings] -= 1
        else:
            unmatched.append((number, readings))
    for number, readings in unmatched:
        other = next((one for one, times in left.items() if times and one & readings), None)
        if other is None:
            yield number
        else:
            left[other] -= 1


def _readings(number: str) -> Readings:
    """All that a number can mean, in ASCII digits with a point."""
    digits = "".join(_ascii(character) for character in number).lstrip("0") or "0"
    points = [character for character in digits if character in ".,"]
    whole = digits.replace(".", "").replace(",", "")
    if not points:
        return frozenset([digits])
    before, _, after = digits.rpartition(points[-1])
    decimal = f"{before.replace('.', '').replace(',', '')}.{after}"  # `.5` for 0.5
    if len(set(points)) > 1:
        return frozenset([decimal])
    if len(points) > 1:
        return frozenset([whole])
    return frozenset([whole, decimal] if len(after) == THOUSAND else [decimal])


def _ascii(character: str) -> str:
    value = unicodedata.decimal(character, None)
    if value is not None:
        return str(value)
    return {"\u066b": ".", ".": ".", ",": ","}.get(character, "")


def _repeats_at_end(text: str) -> int:
    """How often the end of a text is repeated in a row, 0 where that is no loop."""
    end = " ".join(text.casefold().split())[: -WINDOW - 1 : -1]
    best = 0
    for length, border in enumerate(_borders(end), 1):
        period = length - border
        repeats = length // period
        enough = REPEATS_OF_SHORT if period < SHORT_PERIOD else REPEATS_OF_LONG
        has_letters = LETTER.search(end, 0, period) is not None
        least = LOOP_LENGTH if has_letters else LOOP_LENGTH_OF_MARKS
        if repeats >= enough and length >= least:
            best = max(best, repeats)
    return best


def _borders(text: str) -> list[int]:
    """For each beginning of a text, the longest of its beginnings that is also its end (KMP)."""
    borders = [0] * len(text)
    for at in range(1, len(text)):
        border = borders[at - 1]
        while border and text[at] != text[border]:
            border = borders[border - 1]
        borders[at] = border + (text[at] == text[border])
    return borders


def _commonest_sentence(text: str) -> tuple[str, int]:
    sentences = (" ".join(one.split()).casefold() for one in SENTENCE.findall(text))
    counted = Counter(one for one in sentences if LETTER.search(one))
    return counted.most_common(1)[0] if counted else ("", 0)
