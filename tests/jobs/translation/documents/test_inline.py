"""Inline elements: what is found does not depend on how prose is passed over."""

from __future__ import annotations

import random

import pytest
import regex

from jobs.translation.documents import inline
from jobs.translation.documents.inline import INLINE, PATTERNS, elements, oversized_spans

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


@pytest.mark.parametrize(
    "element",
    [
        "`" + "a b " * 100 + "`",
        "$$" + "a b " * 100 + "$$",
        r"\(" + "a b " * 100 + r"\)",
        '<a title="' + "a b " * 100 + '">',
        "<!-- " + "a b " * 100 + "-->",
        "{ " + " " * 300 + "x }",
        "https://a.example/" + "b" * 300,
        "https://a.example/\x1c" + "b" * 300,
        "data:image/png;base64," + "A" * 300,
        "a@" + "b." * 200 + "c",
        "123 456" + " 789" * 80,
        "123 456" + " 789" * 40 + ".1" + "5" * 145,
        "1.234" + ".567" * 80,
    ],
)
def test_a_long_element_is_found_in_any_text(element: str) -> None:
    text = f"It says {element} there."
    assert oversized_spans(text) == [(8, 8 + len(element))]
    assert oversized_spans("It says " + "so and so, " * 100) == []


@pytest.mark.parametrize("seed", range(3))
def test_no_long_element_is_passed_over(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(seed)
    pieces = ["".join(chance.choice(PIECES) for _ in range(9)) for _ in range(40)] + PIECES
    texts = [
        "".join(chance.choice(pieces) * chance.choice([1, 1, 2, 301]) for _ in range(4))[:4000]
        for _ in range(150)
    ]
    found = [oversized_spans(text) for text in texts]
    monkeypatch.setattr(inline, "SIGNS_OF_OVERSIZED", (regex.compile(""),))
    assert found == [oversized_spans(text) for text in texts]
    assert any(found)
