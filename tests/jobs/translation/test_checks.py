from __future__ import annotations

import pytest

from jobs.translation.checks import lost
from tests.jobs.translation.documents.suite import SUITE


@pytest.mark.parametrize("sample", SUITE[:-12], ids=lambda sample: sample.name)
def test_a_text_loses_nothing_to_itself(sample: object) -> None:
    text = sample.text  # type: ignore[attr-defined]
    assert lost(text, text) == []


@pytest.mark.parametrize(
    "thing",
    [
        "{name}", "{0}", "{{ user.name }}", "%s", "%(count)d", "%1$d", "%.2f", "${HOME}", "$HOME",
        "%APPDATA%", "`make all`", "https://example.com/a?b=c#d", "me@example.com", "<b>", "</b>",
        '<a href="x.html">', "<br/>", "&nbsp;😀", "👨‍👩‍👧", "🇩🇪", "👍🏽", "12", "1,234.5",
        "1️⃣", "**", "<0>",
    ],
)  # fmt: skip
def test_what_is_gone_is_said(thing: str) -> None:
    source = f"Before {thing} after."
    wanted = thing.removeprefix("&nbsp;")
    assert lost(source, f"Vorher {thing} nachher.") == []
    assert lost(source, "Vorher nachher.") == [wanted]
    assert lost(f"{source} {source}", source) == [wanted]


def test_the_target_of_a_link_must_stay_and_its_text_need_not() -> None:
    source = "See [the guide](docs/guide.md) and ![a gull](gull.png)."
    assert lost(source, "Siehe [die Anleitung](docs/guide.md) und ![eine Möwe](gull.png).") == []
    assert lost(source, "Siehe die Anleitung und ![eine Möwe](moewe.png).") == [
        "docs/guide.md", "gull.png",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("1,234.5", "1.234,5"), ("1,234.5", "1 234,5"), ("1,234.5", "1\u202f234,5"),
        ("1234567", "12,34,567"), ("1,000", "1.000"), ("1,000", "1000"), ("3.50", "3,50"),
        ("42", "٤٢"), ("१२३", "123"), ("１２円", "12 yen"), ("1'000.5", "1,000.5"),
        ("2.5.1", "2.5.1"), ("0.5", "0,5"), ("2024-03-04", "4.3.2024"), ("١٬٢٣٤٫٥", "1,234.5"),
    ],
)  # fmt: skip
def test_a_number_may_be_written_in_another_way(source: str, target: str) -> None:
    assert lost(f"It is {source}!", f"Es sind {target}!") == []
    assert lost(f"Es sind {target}!", f"It is {source}!") == []


@pytest.mark.parametrize(
    ("source", "target"),
    [("3.5", "35"), ("12", "13"), ("1,234.5", "1.234"), ("10", "100"), ("1.25", "1.2")],
)
def test_another_number_is_another(source: str, target: str) -> None:
    assert lost(f"It is {source}!", f"Es sind {target}!") == [source]


def test_paragraphs_and_glossary_terms() -> None:
    assert lost("One.\n\nTwo.\n\nThree.", "Eins. Zwei.\n\nDrei.") == ["paragraph break"]
    terms = [("gear box", "Getriebe"), ("box", "Kiste")]
    assert lost("a gear box", "ein getriebe", glossary_terms=terms) == ["box -> Kiste"]
