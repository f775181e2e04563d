"""Refusals are seen in the usual words and languages; results that resemble them are not."""

from __future__ import annotations

import pytest

from jobs.answers.refusal import OTHER_LANGUAGES, is_refusal

REFUSALS = [
    "Please provide me with the image you would like me to describe.",
    "Please provide the image",
    "Okay, I'm ready! Please share the photo with me.",
    "Could you please upload the picture?",
    "Please provide the text you would like me to translate.",
    "I cannot see any image. Could you upload it?",
    "I'm sorry, but as a large language model I cannot see images.",
    "As an AI, I do not have the ability to view or process images directly.",
    "I’m sorry, I can’t assist with that request.",
    "**I am unable to fulfill this request.**",
    "Sorry about that, but I won't describe this person's photo; I cannot identify people.",
    "You haven't provided an image.",
    "It seems you forgot to attach the image.",
    "There is no image attached.",
]
OTHERS = {
    "de": "Es tut mir leid, aber ich kann das Bild nicht sehen.",
    "fr": "Je suis désolé, mais je ne peux pas voir l'image.",
    "es": "Por favor, proporcioname la imagen que quieres que describa.",
    "it": "Mi dispiace, ma non posso vedere l'immagine.",
    "pt": "Desculpe, mas não consigo ver a imagem.",
    "nl": "Het spijt me, maar ik kan de afbeelding niet zien.",
    "ru": "Пожалуйста, предоставьте изображение, которое нужно описать.",
    "pl": "Przepraszam, ale nie mogę zobaczyć obrazu.",
    "zh": "请提供您想要描述的图片。",
    "ja": "画像を提供してください。",
    "ko": "죄송합니다. 이미지를 볼 수 없습니다.",
}
RESULTS = [
    "A sign that reads 'Please provide identification'.",
    "Please provide a photo ID",
    "Please send the photo to grandma.",
    "A man says: I'm sorry, I cannot see the image.",
    "I cannot see the forest for the trees, a poster reads.",
    "I can't help you with that, says the man in the first panel.",
    "I do not have a dog.",
    "There is no text in the image.",
    "There is no picture on the wall, only a nail.",
    "Sorry, we are closed",
    "Unfortunately the photo is blurred, but a red car can be made out.",
    "I see a picture of a cat.",
    "Bitte nicht stören",
    "请勿触摸",
    "",
]


@pytest.mark.parametrize("text", [*REFUSALS, *OTHERS.values()])
def test_a_refusal_is_seen(text: str) -> None:
    assert is_refusal(text)


def test_every_language_has_an_example() -> None:
    assert OTHERS.keys() == OTHER_LANGUAGES.keys()


@pytest.mark.parametrize("text", RESULTS)
def test_a_result_is_no_refusal(text: str) -> None:
    assert not is_refusal(text)


@pytest.mark.parametrize(
    ("answer", "source"),
    [
        ("Please upload a photo.", "请上传照片。"),
        ("请提供文本。", "Please provide the text."),
        ("I cannot help with that.", "我帮不了你。"),
        ("Please upload an image.", "画像を送信してください"),
    ],
)
def test_scripts_of_other_lengths_are_no_refusals(answer: str, source: str) -> None:
    assert is_refusal(answer)
    assert not is_refusal(answer, source)


def test_a_translation_of_such_a_sentence_is_none_and_an_answer_of_another_length_is_one() -> None:
    answer = "Please provide the text you would like me to translate."
    assert not is_refusal(answer, "Geben Sie bitte den Text an, den ich übersetzen soll.")
    assert is_refusal(answer, "Kreis")
    assert is_refusal(answer, "Der Hafen ist klein. " * 20)
