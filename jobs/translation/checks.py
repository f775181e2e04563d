"""What a translation lost of its source.

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
    elements, rest = inline.elements(source)
    elements_there, rest_there = inline.elements(target)
    missing = _exact(source, elements, rest) - _exact(target, elements_there, rest_there)
    numbers = _lost_numbers(_numbers(elements), _numbers(elements_there))
    folded = target.casefold()
    terms = [f"{term} -> {due}" for term, due in glossary_terms if due.casefold() not in folded]
    return [*missing.elements(), *numbers, *terms]


def _exact(text: str, elements: Iterable[tuple[str, str]], rest: str) -> Counter[str]:
    """What must be there unchanged: elements, marks and paragraph breaks, with their counts."""
    kept = Counter(
        " ".join(element.split()) if kind == "tag" else element
        for kind, element in elements
        if kind in EXACT
    )
    kept.update(MARKS.findall(rest))
    if breaks := len(BLANK_LINE.findall(text.strip())):
        kept[PARAGRAPH_BREAK] += breaks
    return kept


def _numbers(elements: Iterable[tuple[str, str]]) -> list[str]:
    """The numbers of a text; a date (`4.3.2024`) gives three, as `2024-03-04` does."""
    numbers: list[str] = []
    for kind, number in elements:
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
