"""What a translation lost of its source, and whether it ran into a loop.

Compares the inline elements of both texts (`documents.inline`): a number may be written in the
other language's way, a tag with other white space; everything else must be there unchanged, and as
often. `answers` decides which outcome that gives.
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

GROUP = 3
"""Digits between two separators of thousands."""

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
SENTENCE = re.compile(r"[^.!?。！？।؟\n]{20,}")
REPEATS_OF_SENTENCE = 6

Values = frozenset[str]
"""The values a written number can have: `1.234` is 1234 in German and 1.234 in English."""


def lost(source: str, target: str, *, glossary_terms: Iterable[tuple[str, str]] = ()) -> list[str]:
    """What a translation should have kept and did not, each as often as it is missing.

    Args:
        source: The text that was translated.
        target: Its translation.
        glossary_terms: Terms in the source, each with the translation it should have.

    Returns:
        Inline elements as the source has them, marks like `**`, `paragraph break`, and glossary
        terms as `term -> translation`.
    """
    missing = _exact(source) - _exact(target)
    numbers = _lost_numbers(_numbers(source), _numbers(target))
    folded = target.casefold()
    terms = [f"{term} -> {due}" for term, due in glossary_terms if due.casefold() not in folded]
    return [*missing.elements(), *numbers, *terms]


def is_repetitive(text: str, source: str = "") -> bool:
    """Whether an answer ran into a loop: its end, or most of it, is one text over and over.

    Args:
        text: The answer.
        source: The text that was translated; the answer may repeat itself twice as often.
    """
    repeats = _repeats_at_end(text)
    if repeats and repeats > 2 * _repeats_at_end(source):
        return True
    sentence, times = _commonest_sentence(text)
    if times < REPEATS_OF_SENTENCE or times * len(sentence) * 2 < len(text):
        return False
    return times > 2 * _commonest_sentence(source)[1]


def _exact(text: str) -> Counter[str]:
    """What must be there unchanged: elements, marks and paragraph breaks, with their counts."""
    elements = Counter(
        " ".join(element.split()) if kind == "tag" else element
        for kind, element in inline.elements(text)
        if kind in EXACT
    )
    marks = Counter(MARKS.findall(inline.without_elements(text)))
    breaks = len(BLANK_LINE.findall(text.strip()))
    return elements + marks + Counter({PARAGRAPH_BREAK: breaks})


def _numbers(text: str) -> list[str]:
    """The numbers of a text; a date (`4.3.2024`) gives three, as `2024-03-04` does."""
    numbers: list[str] = []
    for kind, number in inline.elements(text):
        if kind == "number":
            groups = number.split(".")
            is_grouped = all(len(group) == GROUP for group in groups[1:])
            numbers += [number] if is_grouped or number.count(".") <= 1 else groups
    return numbers


def _lost_numbers(source: Sequence[str], target: Sequence[str]) -> Iterator[str]:
    """Numbers of the source for which the target has none that can have the same value."""
    left = Counter(_values(number) for number in target)
    unmatched = []
    for number in source:
        values = _values(number)
        if left[values]:
            left[values] -= 1
        else:
            unmatched.append((number, values))
    for number, values in unmatched:
        match = next((other for other, times in left.items() if times and other & values), None)
        if match is None:
            yield number
        else:
            left[match] -= 1


def _values(number: str) -> Values:
    """All values that a written number can have, in ASCII digits with a decimal point."""
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
    return frozenset([whole, decimal] if len(after) == GROUP else [decimal])


def _ascii(character: str) -> str:
    """A digit or separator of any script in ASCII; separators of thousands are left out."""
    value = unicodedata.decimal(character, None)
    if value is not None:
        return str(value)
    return {"\u066b": ".", ".": ".", ",": ","}.get(character, "")


def _repeats_at_end(text: str) -> int:
    """How many times the end of a text repeats in a row; 0 where that is not a loop."""
    end = " ".join(text.casefold().split())[: -WINDOW - 1 : -1]
    best = 0
    for length, border in enumerate(_borders(end), 1):
        period = length - border
        repeats = length // period
        enough = REPEATS_OF_SHORT if period < SHORT_PERIOD else REPEATS_OF_LONG
        has_letters = inline.LETTER.search(end, 0, period) is not None
        least = LOOP_LENGTH if has_letters else LOOP_LENGTH_OF_MARKS
        if repeats >= enough and length >= least:
            best = max(best, repeats)
    return best


def _borders(text: str) -> list[int]:
    """For each prefix, the length of its longest proper prefix that is also its suffix (KMP)."""
    borders = [0] * len(text)
    for at in range(1, len(text)):
        border = borders[at - 1]
        while border and text[at] != text[border]:
            border = borders[border - 1]
        borders[at] = border + (text[at] == text[border])
    return borders


def _commonest_sentence(text: str) -> tuple[str, int]:
    sentences = (" ".join(found.split()).casefold() for found in SENTENCE.findall(text))
    counted = Counter(sentence for sentence in sentences if inline.LETTER.search(sentence))
    return counted.most_common(1)[0] if counted else ("", 0)
