from __future__ import annotations

import re

import pytest

from jobs.options.languages import (
    WMT24PP,
    Language,
    column_suffix,
    find_language,
    script_of,
)
from pipeline import UserError


@pytest.mark.parametrize(
    ("code", "language"),
    [
        ("de", Language("de", "German")),
        ("DE", Language("de", "German")),
        (" pt_br ", Language("pt-BR", "Portuguese")),
        ("zh-hant", Language("zh-Hant", "Chinese")),
        ("zh_TW", Language("zh-TW", "Chinese")),
        ("sr-latn", Language("sr-Latn", "Serbian")),
        ("es-419", Language("es-419", "Spanish")),
        ("bn", Language("bn", "Bengali")),
        ("fil", Language("fil", "Filipino")),
        ("no-NO", Language("no-NO", "Norwegian")),
        ("ceb", Language("ceb", "Cebuano")),
        ("yue-Hans", Language("yue-Hans", "Cantonese")),
    ],
)
def test_a_code_gives_a_language(code: str, language: Language) -> None:
    assert find_language(code) == language


def test_all_languages_of_wmt24pp_are_known() -> None:
    codes = WMT24PP.split()
    assert len(set(codes)) == 55
    for code in codes:
        assert find_language(code).code == code
        assert find_language(code.split("-")[0]).name == find_language(code).name


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("german", "de"),
        ("Germn", "de"),
        ("deu", "de"),
        ("iw", "he"),
        ("pt-XX", "pt"),
        ("zh-HK", "zh-Hant-HK"),
        ("zh-SG", "zh-Hans-SG"),
        ("sh", "sr-Latn"),
        ("filipino", "fil"),
        ("xx", "xh"),
        ("jp", "ja"),
        ("cn", "zh"),
        ("cantonese", "yue"),
        ("fr-XB", "fr"),
    ],
)
def test_an_unknown_code_names_the_nearest_one(wrong: str, meant: str) -> None:
    with pytest.raises(UserError, match=f"'{wrong}' is not .* Did you mean '{meant}'") as raised:
        find_language(wrong)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("wrong", ["qqq", "qd-AT", "qt-BR", "zq-Hant", "p", "xq-XQ", "sh", "ger"])
def test_what_is_suggested_is_a_code(wrong: str) -> None:
    with pytest.raises(UserError) as raised:
        find_language(wrong)
    for code in re.findall("mean '(.*?)'", str(raised.value)):
        assert find_language(code).code == code


@pytest.mark.parametrize(
    "wrong", ["", "q", "klingon-XX", "de-", "-", "d e", "und", "mul", "zxx", "root"]
)
def test_nonsense_is_refused(wrong: str) -> None:
    with pytest.raises(UserError, match="is not the code of a language"):
        find_language(wrong)


def test_scripts_and_columns() -> None:
    assert [script_of(code) for code in ("zh", "zh-TW", "sr", "sr-Latn", "pt-BR", "ur")] == [
        "Hans", "Hant", "Cyrl", "Latn", "Latn", "Arab",
    ]  # fmt: skip
    assert column_suffix("zh-Hant") == "zh_Hant"
