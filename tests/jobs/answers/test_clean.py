"""What is around an answer is cut, and nothing of the answer itself."""

from __future__ import annotations

import pytest

from jobs.answers.clean import cleaned

AROUND = [
    "Here is a caption for the image:\n\n{}",
    "Here's a one-sentence description of the image: {}",
    "Here is the German translation of the text:\n{}",
    "Here’s a short, factual alt text: {}",
    "Sure! Here is a concise caption: {}",
    "Okay, here are tags for this image: {}",
    "Certainly! Below is the translated text:\n\n{}",
    "**Caption:** {}",
    "**Caption**: {}",
    "**Caption: {}**",
    "## Description: {}",
    "**{}**",
    "Here is a caption for the image:\n\n**{}**",
    "**Here is a caption:**\n\n**{}**",
    "Alt text: {}",
    "Hier ist die Übersetzung ins Deutsche:\n\n{}",
    "Gerne! Hier ist eine kurze Bildbeschreibung: {}",
    "Bildunterschrift: {}",
    "Bien sûr ! Voici une description de l'image : {}",
    "Claro, aquí tienes la traducción al español:\n{}",
    "Ecco la traduzione in italiano: {}",
    "Aqui está a tradução: {}",
    "Hier is de vertaling: {}",
    "Конечно! Вот перевод: {}",
    "好的，以下是图片的描述：{}",
    "以下が翻訳です：\n{}",
    "다음은 번역입니다: {}",
    '"{}"',
    "“{}”",
    "„{}“",
    "« {} »",
    "「{}」",
    "```\n{}\n```",
    "```text\n{}\n```",
    'Caption: "{}"',
    "Here is a caption:\n\n```\n“{}”\n```",
]


@pytest.mark.parametrize("around", AROUND)
def test_what_is_around_an_answer_is_cut(around: str) -> None:
    assert cleaned(around.format("a red circle, left of it a star.")) == (
        "a red circle, left of it a star."
    )


@pytest.mark.parametrize(
    "answer",
    [
        "a dog",
        "Here is a sign: STOP",
        "Here is a sign with the caption: No entry",
        "This is a picture of a dog: brown, happy and wet.",
        "A poster that says: here is a caption: none",
        '"Stop" says the sign, and below "Go"',
        '"STOP"\n"GO"',
        "The dog's owner's hat",
        "'t Is een hond",
        "Two men; one says: “Hello”",
        "```\na\n```\nand\n```\nb\n```",
        "Description of a crime",
        "**Warning** of a **dog**",
        "__init__",
        "Hier ist es schön: Berge und Seen",
        "Sure! A dog.",
        "Caption:",
        "Here is a caption:",
        '""',
        "",
        '"',
    ],
)
def test_nothing_of_an_answer_is_cut(answer: str) -> None:
    assert cleaned(answer) == answer


@pytest.mark.parametrize(
    ("source", "answer"),
    [
        ("Description: a mug", "Beschreibung: eine Tasse"),
        ("Here is the translation: none", "Hier ist die Übersetzung: keine"),
        ('"Come in," he said.', "»Kommen Sie herein«"),
        ("“Come in”", '"Herein"'),
        ("```\nprint(1)\n```", "```\nprint(1)\n```"),
        ("**Warning**", "**Warnung**"),
        ("Maschinelle Übersetzung – eine Geschichte", "Machine translation: a history"),
        ("Maschinelle Übersetzung - eine Geschichte", "Machine translation: a history"),
    ],
)
def test_what_the_source_has_stays(source: str, answer: str) -> None:
    assert cleaned(answer, source) == answer
    assert cleaned(answer) != answer


@pytest.mark.parametrize(
    ("answer", "rest"),
    [
        ("Here is a caption:\n\n**Overall:** a dog", "**Overall:** a dog"),
        ("Caption: __init__ on a screen", "__init__ on a screen"),
        ("**Caption: A** dog", "**A** dog"),
    ],
)
def test_marks_of_the_answer_itself_stay(answer: str, rest: str) -> None:
    assert cleaned(answer) == rest


def test_a_translation_loses_what_its_source_has_not() -> None:
    assert cleaned('Übersetzung: "eine Tasse"', "a mug") == "eine Tasse"
    assert cleaned("Hier ist die Übersetzung: eine Tasse", "a mug – blue") == "eine Tasse"
