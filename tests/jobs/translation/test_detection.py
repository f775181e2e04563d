from __future__ import annotations

import subprocess
import sys

import pytest

from jobs.options.languages import is_language
from jobs.translation.detection import Detected, detect, is_wrong_language, same_language
from tests.jobs.translation.prose import PROSE


@pytest.mark.parametrize("code", PROSE)
def test_a_paragraph_is_recognised(code: str) -> None:
    detected = detect(" ".join(PROSE[code]))
    assert detected.language is not None
    assert same_language(detected.language, code)
    assert detected.confidence > 0.5  # Croatian, which is like Bosnian; the others above 0.8


def test_nearly_every_sentence_is_recognised() -> None:
    sentences = [(code, one) for code, several in PROSE.items() for one in several]
    right = [code for code, one in sentences if same_language(detect(one).language or "", code)]
    assert len(right) >= 0.97 * len(sentences)  # measured: 0.979


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  \n",
        "12,5",
        "😀 👍🏽",
        "https://example.com/the/house",
        "{name} %s `the house`",
        "<b></b>",
    ],
)
def test_a_text_without_words_has_no_language(text: str) -> None:
    assert detect(text) == Detected(None, 0.0)


def test_markup_does_not_decide() -> None:
    code = "`the code is in english and it is much longer than everything else here` " * 5
    assert (
        detect(f"{code} <div class='the'>Niemand hat es eilig.</div> {{the_name}}").language == "de"
    )


def test_the_languages_can_be_narrowed() -> None:
    sentence = "Nikome se ne žuri."
    assert detect(sentence, among=["hr", "en", "de-AT"]).language == "hr"
    assert detect("Niemand hat es eilig.", among=["de-AT", "en"]).language == "de-AT"
    assert detect("Niemand", among=["de"]).confidence == pytest.approx(1)
    assert detect("Niemand", among=["xx"]) == Detected(None, 0.0)


def test_chinese_is_told_apart_by_its_script() -> None:
    assert detect("".join(PROSE["zh-CN"])).language == "zh"
    assert detect("".join(PROSE["zh-TW"])).language == "zh-Hant"


@pytest.mark.parametrize(
    "text", ["pip install numpy pandas scipy matplotlib jupyter", "Xe mejo, ghe xe tuto da far"]
)
def test_what_is_detected_is_always_a_language_of_ours(text: str) -> None:
    """The detector takes these for Nigerian Pidgin and Venetian, which our list does not have."""
    found = detect(text).language
    assert found is not None
    assert is_language(found)


def test_text_that_is_not_unicode_is_no_fault() -> None:
    assert detect("Niemand hat es \udce4 eilig, niemand.").language == "de"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("pt", "pt-BR", True), ("pt-BR", "pt-PT", False), ("de", "de-AT", True),
        ("zh", "zh-CN", True), ("zh-TW", "zh-CN", False), ("zh-TW", "zh-Hant", True),
        ("zh", "zh-Hant", False), ("no", "nb", True), ("no", "nn", False), ("sr", "sr-Latn", False),
        ("tl", "fil-PH", True), ("en", "de", False),
    ],
)  # fmt: skip
def test_what_is_the_same_language(one: str, other: str, same: bool) -> None:
    assert same_language(one, other) is same
    assert same_language(other, one) is same


class TestWrongLanguage:
    def test_a_right_answer_is_never_called_wrong(self) -> None:
        """Whole sentences and parts of them, whatever they were translated from."""
        for code, sentences in PROSE.items():
            for source in ("en", "de", "es", "ru", "zh", "no", "id"):
                for sentence in sentences:
                    parts = sentence.split()
                    for part in (sentence, " ".join(parts[:-2]), " ".join(parts[2:])):
                        assert not is_wrong_language(part, code, source), (code, source, part)

    @pytest.mark.parametrize("code", [code for code in PROSE if code != "en"])
    def test_a_paragraph_left_untranslated_is_wrong(self, code: str) -> None:
        assert is_wrong_language(" ".join(PROSE[code]), "en", code)
        assert is_wrong_language(" ".join(PROSE["en"]), code, "en")
        assert is_wrong_language(" ".join(PROSE["en"]), code)

    def test_most_sentences_left_untranslated_are_wrong(self) -> None:
        longer = [
            (code, one)
            for code, several in PROSE.items()
            for one in several
            if len(one) > 45 and code not in ("de", "nl")
        ]
        wrong = [code for code, one in longer if is_wrong_language(one, "de", code)]
        assert len(wrong) > 0.9 * len(longer)

    def test_simplified_for_traditional_chinese_is_wrong(self) -> None:
        simplified, traditional = "".join(PROSE["zh-CN"]), "".join(PROSE["zh-TW"])
        assert is_wrong_language(simplified, "zh-TW", "en")
        assert is_wrong_language(traditional, "zh-CN", "en")
        assert not is_wrong_language(simplified, "zh", "en")
        assert not is_wrong_language(traditional, "zh-Hant", "en")

    @pytest.mark.parametrize("target", ["de", "ja", "ru", "th", "ar", "mi"])
    @pytest.mark.parametrize(
        "text",
        [
            "", "OK", "John Smith", "12,5 %", "https://example.com/a/house/in/the/south",
            "Angela Merkel, Emmanuel Macron, Barack Obama, Narendra Modi, Olaf Scholz",
            "New York, Los Angeles, San Francisco, Chicago, Houston and Phoenix",
            "MacBook Air, iPad Pro, Apple Watch Ultra, AirPods Max", "The End", "Harbour",
        ],
    )  # fmt: skip
    def test_short_answers_and_names_are_not(self, text: str, target: str) -> None:
        assert not is_wrong_language(text, target, "en")

    @pytest.mark.parametrize(
        ("text", "source"),
        [
            ("Niemand hat es eilig.", "de"),  # too short for a verdict
            ("Ministère de l'Éducation nationale et de la Jeunesse", "fr"),  # mostly names
            (" ".join((*PROSE["en"][:3], *PROSE["fr"][:3])), "fr"),  # quotes its source
            (" ".join((*PROSE["en"][:4], *PROSE["ru"][:2])), "ru"),
        ],
    )
    def test_in_doubt_an_answer_is_not(self, text: str, source: str) -> None:
        assert not is_wrong_language(text, "en", source)

    def test_languages_alike_are_not_told_apart(self) -> None:
        assert not is_wrong_language(" ".join(PROSE["hr"]), "sr-Latn", "en")
        assert not is_wrong_language(" ".join(PROSE["no"]), "da", "en")


def test_the_model_is_loaded_only_when_it_is_needed() -> None:
    code = (
        "import sys, jobs.translation.detection as d; "
        "assert 'py3langid' not in sys.modules; d.detect('a b')"
    )
    subprocess.run([sys.executable, "-c", f"{code}; assert 'py3langid' in sys.modules"], check=True)
