from __future__ import annotations

import random

import pytest

from jobs.translation.documents.sentences import Strength, cut_points, sentence_ends
from tests.jobs.translation.documents.test_document import PIECES
from tests.jobs.translation.prose import PROSE


@pytest.mark.parametrize("code", [code for code in PROSE if code not in ("th", "ar")])
def test_sentences_end_where_they_end(code: str) -> None:
    space = "" if code in ("zh-CN", "zh-TW", "ja") else " "
    text = space.join(PROSE[code])
    ends, at = [], 0
    for sentence in PROSE[code]:
        at += len(sentence) + len(space)
        ends.append(min(at, len(text)))
    found = sentence_ends(text, code)
    assert {*found} <= {*ends}
    assert len(found) >= 5  # sentencex takes the Swedish and Norwegian "del." for an abbreviation


def test_an_abbreviation_is_no_end() -> None:
    assert sentence_ends("Dr. Smith came at 5 p.m. to see us. He left.", "en")[0] == 36
    assert len(sentence_ends("Das ist z.B. am 3. Mai so. Gut.", "de")) == 2


def test_whatever_stands_there_sentencex_gives_it_back() -> None:
    """It fails on wide spaces and loses line breaks unless they are masked."""
    rng = random.Random(3)
    for _ in range(3_000):
        text = "".join(rng.choices([*PIECES, "B\u3000.", " B\u2009."], k=rng.randint(1, 40)))
        ends = sentence_ends(text, rng.choice(["en", "ja", "hi", "de", "my"]))
        assert ends == sorted(ends)
        assert ends[-1:] == [len(text)]


def test_the_strengths_of_cut_points() -> None:
    text = "One, two. Three\nfour.\n\nFive 六、七。八"
    found = {text[:at].rstrip()[-4:]: strength for at, strength in cut_points(text, "en").items()}
    assert found["One,"] is Strength.CLAUSE
    assert found["two."] is Strength.SENTENCE
    assert found["hree"] is Strength.LINE
    assert found["our."] is Strength.PARAGRAPH
    assert found["Five"] is Strength.SPACE
    assert found["e 六、"] is Strength.CLAUSE
    assert found["六、七。"] is Strength.SENTENCE
