"""Loops are seen; texts that repeat themselves, as people write them, are none."""

from __future__ import annotations

import random

import pytest
import regex

from jobs.answers.repetition import has_run, is_repetitive
from tests.jobs.translation.prose import PROSE

PARAGRAPH = "The gulls fly over the old harbour, and the boats come in. "


@pytest.mark.parametrize(
    "text",
    [
        "Der Hafen " + "ist ist " * 40,
        "Am Anfang war es gut. " + "Die Möwen fliegen über den Hafen. " * 12,
        "今日は" * 40,
        "Gut. " + "a" * 300,
        "Ende" + "." * 500,
        "Der Hafen ist klein. " + "Und dann, und dann, " * 30 + "und da",
        "".join(f"Die Möwen fliegen über den kleinen Hafen. Nummer {n}.\n" for n in range(40)),
        "circle circle circle circle",
        "A circle. Ein Kreis. " * 4,
        "A red circle circle circle circle circle circle",
        ", ".join(["a cat"] * 16),
        "Kreis " + "circle and Kreis, Kreis and circle, circle, Kreis, " * 5,
        "圆形，" * 4,
    ],
)
def test_an_answer_that_loops_is_seen(text: str) -> None:
    assert is_repetitive(text)
    assert is_repetitive(text, "The harbour is small. The gulls fly.")


def test_a_long_text_loops_from_the_fourth_time_on() -> None:
    head = "A photo of the sea, taken from the pier on a cloudy day in spring. " * 2
    loops = [is_repetitive(head + PARAGRAPH * times) for times in range(1, 7)]
    assert loops == [False, False, False, True, True, True]


@pytest.mark.parametrize(
    "text",
    ["ha " * 100, "Row, row, row your boat. " * 20, "Halleluja, " * 8, "Kreis " * 5, "圆形，" * 6],
)
def test_a_source_that_repeats_itself_may_be_followed(text: str) -> None:
    assert is_repetitive(text)
    assert not is_repetitive(text, text)
    assert not is_repetitive(text, text.upper())


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("I love you so. " * 5, "Ich liebe dich so sehr. " * 5),
        ("加油加油加油加油", "Go for it! " * 4),
        ("谢谢谢谢", "Thank you, " * 4),
        ("是否" * 15, "Ja Nein " * 15),
        (
            "今晚我们要赢，朋友们。再来。" * 6,
            "Ce soir, il faut gagner, les amis. Encore une fois. " * 6,
        ),
    ],
)
def test_a_source_in_another_script_may_be_followed(source: str, text: str) -> None:
    assert is_repetitive(text)
    assert not is_repetitive(text, source)
    assert is_repetitive(text * 10, source)


@pytest.mark.parametrize(
    "text",
    [
        "", "ha ha ha ha", "No, no, no, no, no!", "Row, row, row your boat, gently. " * 2,
        "A circle, a circle and a circle.",
        "Day after day after day, the same man with the same dog on the same bench.",
        "A row of identical white houses, each with a red door and a small garden.",
        "| a | 1 |\n|---|---|\n| b | 2 |\n| c | 3 |\n", "---|---|---|" * 10,
        ", ".join(map(str, range(200))), "0, " * 60, "-" * 80,
        "\n".join(f"| bird {n} | pier {n * 7} |" for n in range(5)),
        "We shall fight on the beaches, we shall fight on the landing grounds, we shall fight "
        "in the fields and in the streets, we shall fight in the hills.",
    ],
)  # fmt: skip
def test_what_is_no_loop(text: str) -> None:
    assert not is_repetitive(text)


def test_a_table_in_a_translation_is_no_loop() -> None:
    table = "\n".join(f"| bird {n} | pier {n * 7} |" for n in range(60))
    assert not is_repetitive(table, table.replace("bird", "Vogel"))


@pytest.mark.parametrize("code", PROSE)
def test_prose_is_no_loop(code: str) -> None:
    assert not is_repetitive(" ".join(PROSE[code] * 2))
    assert not has_run(" ".join(PROSE[code]))


def test_runs() -> None:
    assert has_run("a | " + "---|" * 12)
    assert has_run("=" * 12)
    assert not has_run("=" * 11)


RUN = regex.compile(r"(\S.{0,24}?)\1{11}", regex.DOTALL)


@pytest.mark.parametrize("seed", range(4))
def test_a_run_is_what_its_pattern_says(seed: int) -> None:
    chance = random.Random(seed)
    parts = ["a", " ", "ab", "---|", "é\n", "\x1c", "\u3000", "😀", "\ud800", "x" * 24, "xy" * 13]
    for _ in range(600):
        text = "".join(
            chance.choice(parts) * chance.choice([1, 1, 2, 6, 11, 12, 13])
            for _ in range(chance.randint(0, 5))
        ) * chance.choice([1, 1, 1, 12])
        assert has_run(text) == (RUN.search(text) is not None), text
