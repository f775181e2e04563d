"""The language codes that are accepted, and the name of each language in a prompt.

Users' codes are checked against this list before anything runs:

- the 55 languages and regions of WMT24++ (arXiv 2502.12404), on which TranslateGemma was trained;
- every ISO 639 code of two or three letters that CLDR has an English name for, since Gemma 3's list
  (its card says "over 140 languages") was never published;
- those with a script or region for which CLDR has a locale: `zh-Hant`, `de-AT`, `sr-Latn`.

A prompt has a language's English name without script or region, as TranslateGemma's template does
("Portuguese (pt-BR)"). Which codes that template accepts is read from the checkpoint.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.contract.errors import UserError
from pipeline.contract.suggest import suggestion

if TYPE_CHECKING:
    from collections.abc import Mapping

WMT24PP = (
    "ar-EG ar-SA bg-BG bn-IN ca-ES cs-CZ da-DK de-DE el-GR es-MX et-EE fa-IR fi-FI fil-PH fr-CA "
    "fr-FR gu-IN he-IL hi-IN hr-HR hu-HU id-ID is-IS it-IT ja-JP kn-IN ko-KR lt-LT lv-LV ml-IN "
    "mr-IN nl-NL no-NO pa-IN pl-PL pt-BR pt-PT ro-RO ru-RU sk-SK sl-SI sr-RS sv-SE sw-KE sw-TZ "
    "ta-IN te-IN th-TH tr-TR uk-UA ur-PK vi-VN zh-CN zh-TW zu-ZA"
)
"""The languages that WMT24++ pairs with English."""

NOT_LANGUAGES = {"sh", "mul", "und", "zxx"}
"""CLDR names these too: one that ISO 639-1 has withdrawn, those of several languages or none."""
LONGEST_CODE = 3
OTHER_NAMES = {"bn": "Bengali"}
"""Used instead of CLDR's "Bangla", as ISO 639 and nearly every English text do."""


@dataclass(frozen=True)
class Language:
    """A language and its name in a prompt.

    Attributes:
        code: `de`, `pt-BR`, `zh-Hant`.
        name: Its English name, without script or region: `German`, `Portuguese`, `Chinese`.
    """

    code: str
    name: str


def find_language(code: str) -> Language:
    """The language of a code; upper and lower case, `_` and `-` are the same.

    Raises:
        UserError: There is no such code; one line that suggests the nearest.
    """
    languages = _languages()
    wanted = code.strip().replace("_", "-").lower()
    if wanted in languages:
        return languages[wanted]
    raise UserError(
        f"'{code}' is not the code of a language. {_suggestion(wanted)}"
        "Codes are like de, pt-BR, zh-Hant"
    )


def is_language(code: str) -> bool:
    """Whether `find_language` knows this code."""
    return code.replace("_", "-").lower() in _languages()


def language_option(option: str, code: str) -> Language:
    """The language that the value of an option names.

    Raises:
        UserError: There is no such code; the message begins with the option's name.
    """
    try:
        return find_language(code)
    except UserError as error:
        raise UserError(f"{option}: {error}") from None


def column_suffix(code: str) -> str:
    """A code as part of a column's name: `zh-Hant` gives `zh_Hant`."""
    return code.replace("-", "_")


def script_of(code: str) -> str:
    """The script that a language is written in (ISO 15924): `Hans` for `zh`, `Hant` for `zh-TW`."""
    from babel.core import get_global

    base, *rest = code.split("-")
    likely = get_global("likely_subtags")
    for subtag in rest:
        if len(subtag) == 4:  # noqa: PLR2004  BCP 47: four letters are a script
            return subtag.title()
    for tag in ("_".join([base, *rest]), base):
        if tag in likely:
            return str(likely[tag].split("_")[1])
    return "Latn"


@functools.cache
def _languages() -> Mapping[str, Language]:
    """All languages by lower-case code. Cached: babel's data takes a while to load."""
    from babel import Locale
    from babel.localedata import locale_identifiers

    english = {str(code): str(name) for code, name in Locale("en").languages.items()}
    english = {code: name for code, name in english.items() if code not in NOT_LANGUAGES}
    names = {code: name for code, name in english.items() if code.isalpha()} | OTHER_NAMES
    regional = [*WMT24PP.split(), *(tag.replace("_", "-") for tag in locale_identifiers())]
    codes = [*names, *(code for code in regional if code.split("-")[0] in names)]
    return {code.lower(): Language(code, names[code.split("-")[0]]) for code in codes}


def _suggestion(wanted: str) -> str:
    from babel.core import get_global

    languages = _languages()
    by_name = {
        language.name.lower(): code for code, language in languages.items() if "-" not in code
    }
    base, _, rest = wanted.partition("-")
    other = get_global("language_aliases").get(base, "").replace("_", "-").lower()  # deu, iw
    written = f"{base}-{script_of(f'{base}-{rest.upper()}')}-{rest}".lower()  # zh-Hant-HK
    in_part = [written, base] if rest else []
    likely = str(get_global("likely_subtags").get(f"und_{wanted.upper()}", ""))
    of_country = likely.split("_", maxsplit=1)[0]  # what is spoken in `jp`
    candidates = [by_name.get(wanted), f"{other}-{rest}", other, *in_part, of_country]
    for candidate in candidates:
        if candidate in languages:
            return f"Did you mean '{languages[candidate].code}'? "
    near = suggestion(wanted, by_name if len(base) > LONGEST_CODE else ())
    for name, code in by_name.items():
        near = near.replace(f"'{name}'", f"'{languages[code].code}'")
    if not near and len(base) < LONGEST_CODE:  # one of three letters resembles too many
        codes = [language.code for code, language in languages.items() if rest or "-" not in code]
        short = (code for code in codes if len(code.split("-")[0]) < LONGEST_CODE)
        near = suggestion(wanted, [*short])
    return near[:1].upper() + near[1:]
