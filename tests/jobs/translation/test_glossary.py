from __future__ import annotations

import json
import pickle
from dataclasses import asdict
from pathlib import Path

import pytest

from jobs.translation.glossary import MOST_TERMS, Glossary, read_glossary
from pipeline import UserError


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "terms.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.fixture
def glossary(tmp_path: Path) -> Glossary:
    return read_glossary(
        written(
            tmp_path,
            "\ufeffen,de,ja,pt-BR\r\n"
            "gear,Gang\r\n"
            "gear box,Getriebe,変速機,\r\n"
            "box,Kiste,箱\r\n"
            "\r\n"
            "SPAM,SPAM,,\r\n"
            "ProLine,ProLine\r\n"
            'C++,"C++, die Sprache",,\r\n'
            "harbour, Hafen ,港,porto\r\n",
        )
    )


def test_a_file_is_read(glossary: Glossary) -> None:
    assert glossary.languages == ("en", "de", "ja", "pt-BR")
    assert glossary.rows[2] == ("box", "Kiste", "箱", "")
    assert glossary.rows[-1] == ("harbour", "Hafen", "港", "porto")
    assert len(glossary.rows) == 7


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("A Gear  Box in the HARBOUR.", [("gear box", "Getriebe"), ("harbour", "Hafen")]),
        ("gear\nbox and box", [("gear box", "Getriebe"), ("box", "Kiste")]),
        ("boxes, xbox, harbours", []),
        ("spam and Spam", []),
        ("SPAM; proline", [("SPAM", "SPAM")]),
        ("I like C++.", [("C++", "C++, die Sprache")]),
        ("", []),
        ("{gear}, %(box)s, `gear box`, https://harbour.org/box, <img alt='box'>, a@box.com", []),
        ("{gear} and gear, `C++`", [("gear", "Gang")]),
        ("use `C++` at {box}: C++", [("C++", "C++, die Sprache")]),
    ],
)
def test_terms_are_found_as_words(
    glossary: Glossary, text: str, terms: list[tuple[str, str]]
) -> None:
    assert glossary.terms(text, "en", "de") == tuple(terms)


def test_where_a_script_has_no_spaces_terms_are_found_anywhere(glossary: Glossary) -> None:
    assert glossary.terms("この箱の変速機です", "ja", "en") == (
        ("変速機", "gear box"),
        ("箱", "box"),
    )


def test_a_column_serves_the_regions_of_its_language(glossary: Glossary) -> None:
    assert glossary.terms("harbour", "en-GB", "de-AT") == (("harbour", "Hafen"),)
    assert glossary.terms("harbour", "en", "pt-BR") == (("harbour", "porto"),)
    assert glossary.terms("harbour", "en", "pt") == ()
    assert glossary.terms("harbour", "en", "fr") == ()


@pytest.mark.parametrize(
    ("header", "source", "target", "is_found"),
    [
        ("en,zh", "en", "zh-TW", False),  # Simplified terms for Traditional text
        ("en,zh-Hant", "en", "zh-TW", True),
        ("en,zh", "en", "zh-CN", True),
        ("en,sr", "en", "sr-Latn", False),
        ("nb,de", "no", "de", True),  # which is what is detected
        ("de,no", "de", "nb", True),
        ("en-US,de", "en", "de", True),
        ("zh-CN,de", "zh", "de", True),
        ("zh-CN,de", "zh-Hant", "de", False),
    ],
)
def test_a_column_serves_what_means_its_language(
    tmp_path: Path, header: str, source: str, target: str, is_found: bool
) -> None:
    glossary = read_glossary(written(tmp_path, f"{header}\nSoftware,Programm\n"))
    assert bool(glossary.terms("Software", source, target)) == is_found


def test_a_column_is_no_translation_of_itself(tmp_path: Path) -> None:
    glossary = read_glossary(written(tmp_path, "pt,en\nautocarro,bus\n"))
    assert glossary.terms("o autocarro", "pt-BR", "pt-PT") == ()
    assert glossary.terms("o autocarro", "pt-BR", "en") == (("autocarro", "bus"),)


@pytest.mark.parametrize(
    ("source", "targets", "missing"),
    [
        (None, ("fr", "zh-TW"), "fr, zh-TW"),
        ("en-GB", ("en-US", "fr"), "en-US, fr besides the column of en-GB"),
        ("en", ("en", "de"), None),
        ("fr", ("de",), "fr"),
        (None, ("fr", "de"), None),
        ("en-GB", ("de-AT",), None),
    ],
)
def test_one_that_can_never_apply_is_refused(
    tmp_path: Path, source: str | None, targets: tuple[str, ...], missing: str | None
) -> None:
    path = written(tmp_path, "en,de,zh\na,b,c\n")
    if missing is None:
        assert read_glossary(path, source, targets).rows
        return
    with pytest.raises(UserError, match=f"has no column for {missing}; its columns are en, de, zh"):
        read_glossary(path, source, targets)


def test_there_are_never_too_many(tmp_path: Path) -> None:
    rows = "".join(f"term{n},Wort{n}\n" for n in range(200))
    glossary = read_glossary(written(tmp_path, f"en,de\n{rows}"))
    text = " ".join(f"term{n}" for n in range(200))
    assert len(glossary.terms(text, "en", "de")) == MOST_TERMS


def test_it_can_be_sent_recorded_and_told_from_another(glossary: Glossary) -> None:
    glossary.terms("box", "en", "de")
    assert pickle.loads(pickle.dumps(glossary)) == glossary
    assert Glossary.from_json(json.loads(json.dumps(asdict(glossary)))) == glossary
    assert Glossary(glossary.languages, glossary.rows[1:]) != glossary
    assert hash(glossary) == hash(pickle.loads(pickle.dumps(glossary)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("en,german\na,b\n", "line 1: 'german' is not .* Did you mean 'de'"),
        ("en,en\na,b\n", "line 1: 'en' is there twice"),
        ("en\na\n", "line 1: has one language"),
        ("en,de\na,b\n\nc,d,e\n", "line 4: has 3 cells, the header 2"),
        (b"en,de\n\xff,b\n", "is not UTF-8"),
        ('en,de\n"a,b\n', "line "),
    ],
)
def test_a_fault_names_file_and_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(UserError, match=message) as raised:
        read_glossary(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.csv: cannot be read"):
        read_glossary(tmp_path / "nowhere.csv")


def test_turkish_letters_that_only_look_alike_are_no_fault() -> None:
    glossary = Glossary(("en", "de"), (("indigo", "Indigo"),))
    assert glossary.terms("\u0130ND\u0130GO \u0131ndigo", "en", "de") == ()
    assert glossary.terms("INDIGO", "en", "de") == (("indigo", "Indigo"),)


def test_a_term_may_be_a_whole_element_or_have_one() -> None:
    terms = (("{brand}", "{Marke}"), ("Office 365", "Office-365"), ("42", "zweiundvierzig"))
    glossary = Glossary(("en", "de"), terms)
    assert set(glossary.terms("{brand}: Office 365 for 42", "en", "de")) == set(terms)
    assert glossary.terms("142 and 42.5", "en", "de") == ()
