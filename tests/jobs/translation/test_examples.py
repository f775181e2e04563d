"""Examples of translations, and the raw text that a base model continues with one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.registry import JOBS
from jobs.sdk.assembly import configure
from jobs.translation.documents import cut
from jobs.translation.examples import Examples, read_examples
from jobs.translation.task import TranslationTask
from pipeline import UserError
from tests.jobs.translation.test_task import GERMAN, Words, answered, prompts, task

TABLE = "en,de,fr\nGood morning.,Guten Morgen.,Bonjour.\nThank you.,Danke.,\n"
PAIRS = (("Good morning.", "Guten Morgen."), ("Thank you.", "Danke."))
RAW = """\
English: Good morning.
German: Guten Morgen.

English: Thank you.
German: Danke.

English: The boats come back.
German:"""


def file(folder: Path, content: str) -> str:
    path = folder / "pairs.csv"
    path.write_text(content, encoding="utf-8")
    return str(path)


def base(**fields: object) -> TranslationTask:
    return task(continues_text=True, **fields)


def test_the_header_names_the_languages(tmp_path: Path) -> None:
    examples = read_examples(file(tmp_path, TABLE), "en", ["de"])
    assert examples.pairs("en", "de") == PAIRS
    assert examples.pairs("de-AT", "en") == tuple((b, a) for a, b in PAIRS)
    assert examples.pairs("en", "fr") == (("Good morning.", "Bonjour."),)
    plain = read_examples(file(tmp_path, "Source,Target\nYes,Ja\n"), "en", ["de"])
    assert (plain.languages, plain.pairs("en", "de")) == (("en", "de"), (("Yes", "Ja"),))


@pytest.mark.parametrize(
    ("content", "source", "targets", "fault"),
    [
        ("", "en", ["de"], "is empty; its header should be codes like en,de,fr"),
        ("Good morning.,Guten Morgen.\n", "en", ["de"], "line 1: 'Good morning.' is not the code"),
        ("en,de\na,b,c\n", "en", ["de"], "line 2: has 3 cells, the header 2"),
        ('en,de\n"a\nb",c\n', "en", ["de"], "line 3: has a line break in a cell"),
        ('en,de\n"a,b\n', "en", ["de"], "line 2: unexpected end of data"),
        ("en,fr\na,b\n", "en", ["de"], "has no column 'de'"),
        ("en,de\na,\n", "en", ["de"], "has no row with both 'en' and 'de'"),
        ("fr,de\na,b\n", "en", ["de"], "has no row with both 'en' and 'de'"),
        ("source,target\na,b\n", None, ["de"], "line 1: 'source,target' is for one language each"),
        ("source,target\na,b\n", "en", ["de", "fr"], "name the columns by their codes: en,de"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(
    tmp_path: Path, content: str, source: str | None, targets: list[str], fault: str
) -> None:
    with pytest.raises(UserError) as error:
        read_examples(file(tmp_path, content), source, targets)
    assert str(error.value).startswith(f"examples {tmp_path}/pairs.csv")
    assert fault in str(error.value)
    assert "\n" not in str(error.value)


def test_a_base_model_continues_the_lines_of_examples() -> None:
    made = base(examples=Examples(("en", "de"), PAIRS))
    (request,) = made.prepare({"text": "The boats come back."}).requests
    assert request.prompt == RAW
    assert request.sampling.stop == ("\n",)
    (alone,) = base().prepare({"text": "The boats come back."}).requests
    assert alone.prompt == "English: The boats come back.\nGerman:"
    (regional,) = base(targets=("pt-BR",)).prepare({"text": "Yes."}).requests
    assert regional.prompt == "English: Yes.\nPortuguese (pt-BR):"


def test_terms_are_examples_too() -> None:
    made = base(glossary={"languages": ["en", "de"], "rows": [["boats", "Kähne"]]})
    (request,) = made.prepare({"text": "The boats come back."}).requests
    assert request.prompt.startswith("English: boats\nGerman: Kähne\n\nEnglish: The boats")


def test_a_tuned_model_sees_examples_in_its_turn() -> None:
    made = task(examples=Examples(("en", "de"), PAIRS))
    (request,) = made.prepare({"text": "The boats come back."}).requests
    assert "\n\nEnglish: Good morning.\nGerman: Guten Morgen.\n\nEnglish: Thank" in request.prompt
    assert request.prompt.endswith("into German:\n\n\nThe boats come back.")
    assert request.sampling.stop == ()


def test_each_line_is_translated_by_itself_and_none_is_lost() -> None:
    text = (
        "First line,\nstill first.\r\n\n# Title\n\n- a point\n  goes on\n\n| a | b |\n|---|---|\n"
    )
    lines = cut(text, language="en", budget=100, count=Words().count, context=0, by_line=True)
    assert not any("\n" in chunk.text or "\r" in chunk.text for chunk in lines.chunks)
    assert lines.join([chunk.text for chunk in lines.chunks]) == text
    asked = prompts(base().prepare({"text": text}))
    assert all(prompt.count("\n") == 1 for prompt in asked)
    answers = ["Eins,", "noch eins.", "Titel", "ein Punkt", "geht weiter", "a", "b"]
    result = answered(base(check_language=False), text, answers)
    assert result.columns["text_de"] == (
        "Eins,\nnoch eins.\r\n\n# Titel\n\n- ein Punkt\n  geht weiter\n\n| a | b |\n|---|---|\n"
    )


def test_examples_take_their_room() -> None:
    """Of 2,000 tokens: what the examples leave, for the text and three times as much."""
    long = " ".join(["word"] * 900)
    roomy = base(chunk_tokens=2000)
    tight = base(chunk_tokens=2000, examples=Examples(("en", "de"), ((long, "Wort"),)))
    whole, parts = (prompts(made.prepare({"text": f"{long}."})) for made in (roomy, tight))
    assert len(whole) < len(parts)
    assert all(Words().count(prompt) < 2000 for prompt in parts)


def test_text_in_images_is_continued_too() -> None:
    made = TranslationTask(targets=("de",), image_column="photo", source="en", continues_text=True)
    (request,) = made.prepare({"photo": b""}).requests
    assert request.prompt == "The English text in this image, translated to German:"
    assert request.sampling.stop == ("\n",)


def test_the_settings_hold_the_examples_and_make_the_same_task() -> None:
    made = base(examples=Examples(("en", "de"), PAIRS))
    settings = json.loads(json.dumps(made.settings))
    assert settings["examples"]["rows"] == [[*pair] for pair in PAIRS]
    again = TranslationTask(**settings)
    assert again.settings == made.settings
    assert prompts(again.measured(Words()).prepare({"text": "Yes."})) == prompts(
        made.prepare({"text": "Yes."})
    )


def test_the_settings_of_a_job_without_them_are_what_they_were() -> None:
    settings = task().settings
    assert "continues_text" not in settings
    assert settings["examples"] is None  # as a name that is absent from an earlier record


def test_options_become_a_task(gemma_folder: Path, tmp_path: Path) -> None:
    own = {"model": str(gemma_folder), "to": "de", "source": "en"}
    own["examples"] = file(tmp_path, TABLE)
    made = configure(JOBS["translate"], own | {"prompt_format": "raw"}).task()
    assert isinstance(made, TranslationTask)
    assert made.continues_text
    assert made.examples is not None
    assert made.examples.pairs("en", "de") == PAIRS
    tuned = configure(JOBS["translate"], own).task()
    assert isinstance(tuned, TranslationTask)
    assert not tuned.continues_text
    (gemma_folder / "chat_template.jinja").write_text("{{ source_lang_code }} {'de': '', 'en': ''}")
    with pytest.raises(UserError, match="examples: this model's chat template writes the whole"):
        configure(JOBS["translate"], own).task()
    image = {"model": str(gemma_folder), "to": "de", "source": "en", "image_column": "photo"}
    with pytest.raises(UserError, match="examples: are of texts"):
        configure(JOBS["translate"], image | {"examples": own["examples"]}).task()
    with pytest.raises(UserError, match="glossary: its terms are looked for in texts"):
        configure(JOBS["translate"], image | {"glossary": own["examples"]}).task()


def test_an_answer_is_what_stands_before_the_end_of_the_line() -> None:
    result = answered(base(), "The boats come back.", [f" {GERMAN}"])
    assert result.columns["text_de"] == GERMAN
