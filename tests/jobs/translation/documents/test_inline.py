"""Inline elements: what is found does not depend on how prose is passed over."""

from __future__ import annotations

import random

import pytest
import regex

from jobs.translation.documents.inline import INLINE, PATTERNS, elements

ALONE = regex.compile(
    "|".join(f"(?P<{kind}>{pattern})" for kind, pattern in PATTERNS.items()),
    regex.DOTALL | regex.VERSION1,
)
"""The patterns without the one of prose."""
WORDS = (
    "a Ab word foo www. http:// https://x.y/z mailto: data:image data:image/png;base64,AA @ "
    "x@y.de a.b-c+d@e-f.org . , : :// ; ! ? ( ) [ ] ]( ]( <b> </b> < > <br/> &amp; & { } {{x}} "
    "{%a%} %s % %(n)s $ $x ${y} ` `` `c` $$ \\( \\) 1 12 1.5 4,3 ’ ' - -- ℹ ™ 😀 👩‍👩‍👧 🇩🇪 1️⃣ #️⃣ * "
    '** _ ~ é e\u0301 漢 字 。 ， 「 」 ไทย \u200d \ufe0f \u20e3 ٣ “ ” « » " / \\ ftp gs s3 hf '
    "data www Ⅷ ª ʰ ⓐ Ⓜ ㊗ 🅰"
)
PIECES = [*WORDS.split(), " ", " ", " ", "\n", "\t", "\u00a0", "\u202f", "\x1c", "\x85", "a" * 70]


@pytest.mark.parametrize("seed", range(8))
def test_prose_that_is_passed_over_holds_no_element(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(1000):
        text = "".join(chance.choice(PIECES) for _ in range(chance.randint(1, 14)))
        found = [(m.span(), m.lastgroup) for m in INLINE.finditer(text)]
        expected = [(m.span(), m.lastgroup) for m in ALONE.finditer(text)]
        assert [one for one in found if one[1] != "prose"] == expected, text


def test_a_text_is_its_elements_and_the_rest() -> None:
    text = "See `x y`, 3 <b>cats</b>\nat https://a.b/c."
    assert elements(text) == (
        [
            ("code", "`x y`"),
            ("number", "3"),
            ("tag", "<b>"),
            ("tag", "</b>"),
            ("url", "https://a.b/c"),
        ],
        "See  ,    cats \nat  .",
    )


def test_a_plain_text_is_passed_over_at_once() -> None:
    text = "Ein grüner Kreis, links davon - wie gesagt - ein rot-weißes Dreieck; sonst nichts. " * 9
    assert sum(1 for _ in INLINE.finditer(text)) < text.count(" ") / 5
