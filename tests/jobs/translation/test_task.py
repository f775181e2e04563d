"""The translation task: its requests, and its result columns."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from jobs.options.languages import find_language
from jobs.registry import JOBS
from jobs.sdk.assembly import configure
from jobs.translation.glossary import Glossary
from jobs.translation.prompts import TEXT, image_prompt
from jobs.translation.task import TranslationTask
from pipeline import ColumnKind, Generation, Outcome, Result, RowError, UserError
from pipeline.contract.task import Prepared
from tests.jobs.translation.prose import PROSE

ENGLISH = "The boats come back to the harbour early in the morning."
GERMAN = "Die Boote kehren am frühen Morgen in den Hafen zurück."
FRENCH = "Les bateaux rentrent au port de bonne heure le matin."


class Words:
    """A word is a token."""

    max_model_len = 2000

    def count(self, text: str) -> int:
        return len(text.split())


def task(**fields: object) -> TranslationTask:
    settings = {"targets": ("de",), "text_columns": ("text",), "source": "en", **fields}
    return TranslationTask(**settings).measured(Words())  # type: ignore[arg-type]


def said(text: str, finish_reason: str = "stop") -> Generation:
    return Generation(text, prompt_tokens=1, output_tokens=1, finish_reason=finish_reason)


def answered(made: TranslationTask, text: object, answers: Sequence[str | Generation]) -> Result:
    prepared = made.prepare({"text": text})
    state = pickle.loads(pickle.dumps(prepared.state))  # as it travels
    generations = [said(answer) if isinstance(answer, str) else answer for answer in answers]
    assert len(generations) == len(prepared.requests)
    return made.result(state, generations)


def prompts(prepared: Prepared) -> list[str]:
    return [request.prompt for request in prepared.requests]


def test_a_text_is_asked_for_in_translategemmas_words() -> None:
    made = task(targets=("de", "fr"))
    assert prompts(made.prepare({"text": f" {ENGLISH}\n"})) == [
        TEXT.format(source="English", source_code="en", target=name, target_code=code, text=ENGLISH)
        for name, code in (("German", "de"), ("French", "fr"))
    ]
    assert made.columns == {"text": ColumnKind.TEXT}


def test_the_columns() -> None:
    made = task(targets=("de", "pt-BR"), text_columns=("title", "body"), source="auto")
    assert made.result_schema.names == [
        f"{column}_{name}"
        for column in ("title", "body")
        for name in (
            *("language", "language_confidence"),
            *("de", "de_outcome", "de_lost"),
            *("pt_BR", "pt_BR_outcome", "pt_BR_lost"),
        )
    ]
    image = TranslationTask(targets=("de",), image_column="photo", source="en")
    assert image.result_schema.names == ["photo_de", "photo_de_outcome"]
    assert image.columns == {"photo": ColumnKind.IMAGE}


def test_white_space_stays_and_the_answer_is_trimmed() -> None:
    result = answered(task(), f"\n {ENGLISH}\r\n\t", [f" {GERMAN}\n\n"])
    assert result.columns["text_de"] == f"\n {GERMAN}\r\n\t"
    assert (result.outcome, result.columns["text_de_outcome"]) == (Outcome.OK, Outcome.OK)


@pytest.mark.parametrize("text", ["", " \n\t", "😀 👍🏽", "1,234.50", "{name}", "https://a.b/c"])
@pytest.mark.parametrize("source", ["en", "auto"])
def test_what_has_no_words_is_passed_through(text: str, source: str) -> None:
    result = answered(task(source=source), text, [])
    assert result.columns["text_de"] == text
    assert result.columns["text_de_lost"] == []
    assert result.outcome is Outcome.OK


def test_a_text_in_the_target_language_is_passed_through() -> None:
    made = task(targets=("de", "fr"), source="auto")
    result = answered(made, GERMAN, [FRENCH])
    assert result.columns["text_de"] == GERMAN
    assert result.columns["text_fr"] == FRENCH
    assert result.columns["text_language"] == "de"
    assert result.columns["text_language_confidence"] > 0.8  # type: ignore[operator]


def test_a_text_of_an_unsure_language_is_not_passed_through() -> None:
    made = task(source="auto")
    assert len(made.prepare({"text": "Wanderlust"}).requests) == 1  # German, it is guessed


def test_what_did_not_survive_is_told() -> None:
    source = "Dear {name}, pay 12.50 at https://a.b/c by <b>Friday</b> 🙂."
    kept = "Lieber {name}, zahlen Sie 12,50 auf https://a.b/c bis <b>Freitag</b> 🙂."
    made = task(check_language=False)
    assert answered(made, source, [kept]).columns["text_de_lost"] == []
    gone = answered(made, source, ["Lieber Name, zahlen Sie bis Freitag."]).columns["text_de_lost"]
    assert {"{name}", "https://a.b/c", "<b>", "🙂"} <= {*gone}  # type: ignore[misc]


def test_each_column_has_its_outcome_and_the_row_the_worst() -> None:
    made = task(targets=("de", "fr", "es"))
    loop = "El barco vuelve al puerto. " * 40
    result = answered(made, ENGLISH, [GERMAN, ENGLISH, loop])
    assert result.columns["text_de"] == GERMAN
    assert result.columns["text_fr"] is result.columns["text_es"] is None
    assert result.columns["text_fr_lost"] is None
    outcomes = [result.columns[f"text_{code}_outcome"] for code in ("de", "fr", "es")]
    assert outcomes == [Outcome.OK, Outcome.WRONG_LANGUAGE, Outcome.REPETITION]
    assert result.outcome is Outcome.REPETITION
    assert result.partial
    assert result.error is not None
    assert result.error.startswith("text_fr: parse: the answer is in en, not fr: 'The boats")
    assert "; text_es: parse: the answer repeats itself" in result.error


def test_a_loop_of_two_languages_and_a_request_for_the_text_are_no_translations() -> None:
    made = task(targets=("de", "fr", "es"))
    loop = "The boats are back. Die Boote sind zurück. " * 4
    asks = "Please provide the text you would like me to translate."
    result = answered(made, " ".join(PROSE["en"]), [loop, asks, said("barco " * 30, "repetition")])
    outcomes = [result.columns[f"text_{code}_outcome"] for code in ("de", "fr", "es")]
    assert outcomes == [Outcome.REPETITION, Outcome.REFUSED, Outcome.REPETITION]
    assert (
        result.columns["text_de"] is result.columns["text_fr"] is result.columns["text_es"] is None
    )
    assert result.outcome is Outcome.REFUSED
    assert f"text_fr: parse: the answer declines the request: '{asks}'" in str(result.error)


def test_an_empty_answer_is_no_translation() -> None:
    two = answered(
        task(chunk_tokens=64), "\n\n".join([" ".join(PROSE["en"])] * 2), [GERMAN, " ", GERMAN]
    )
    assert (two.outcome, two.columns["text_de"]) == (Outcome.REFUSED, None)
    assert two.error == "parse: the answer is empty"


def test_a_sign_may_say_anything() -> None:
    made = task(image_column="photo", text_columns=(), check_language=False)
    request = made.prepare({"photo": b""})
    for text in ("", "Please provide the image.", "STOP STOP STOP STOP"):
        assert made.result(request.state, [said(text)]).outcome is Outcome.OK
    assert made.result(request.state, [said("a", "repetition")]).outcome is Outcome.REPETITION


def test_the_engine_ends_loops_except_where_the_text_has_one() -> None:
    for text, ends_loops in ((ENGLISH, True), (ENGLISH + " Ha!" * 20, False)):
        (request,) = task().prepare({"text": text}).requests
        assert request.sampling.ends_loops is ends_loops


@pytest.mark.parametrize("text", ["He bought two tickets for the concert.", ENGLISH])
def test_a_text_that_comes_back_as_it_was_is_no_translation(text: str) -> None:
    result = answered(task(), text, [f" {text}\n"])
    assert (result.outcome, result.columns["text_de"]) == (Outcome.WRONG_LANGUAGE, None)
    assert answered(task(check_language=False), text, [text]).outcome is Outcome.OK
    for name in ("Berlin", "Anna Maria Schmidt, Hamburg", "OK!"):
        assert answered(task(), name, [name]).outcome is Outcome.OK
    for right in (
        "Die Sitzung ist um drei Uhr vorbei und alle gehen nach Hause.",  # already in German
        "sudo apt-get install python3-venv build-essential",
        "kubernetes, terraform, postgresql, elasticsearch",
    ):
        assert answered(task(), right, [right]).outcome is Outcome.OK
    portuguese = "O barco volta ao porto de manhã cedo."
    made = task(targets=("gl",), source="pt")
    assert answered(made, portuguese, [portuguese]).outcome is Outcome.OK


def test_the_language_of_answers_need_not_be_checked() -> None:
    result = answered(task(check_language=False), ENGLISH, [ENGLISH])
    assert result.columns["text_de"] == ENGLISH


def test_an_answer_that_was_cut_is_kept() -> None:
    result = answered(task(), ENGLISH, [said(GERMAN, "length")])
    assert (result.outcome, result.columns["text_de"]) == (Outcome.TRUNCATED, GERMAN)


def test_a_request_that_failed_costs_its_own_column() -> None:
    failed = Generation(
        "",
        prompt_tokens=0,
        output_tokens=0,
        finish_reason="",
        failure=RowError(Outcome.TOO_LONG, "render", "the prompt has 9 tokens"),
    )
    made = task(targets=("de", "fr"))
    result = answered(made, ENGLISH, [failed, FRENCH])
    assert (result.columns["text_de"], result.columns["text_fr"]) == (None, FRENCH)
    assert result.outcome is Outcome.TOO_LONG
    assert result.error == "text_de: render: the prompt has 9 tokens"


def test_a_null_text() -> None:
    result = answered(task(targets=("de", "fr")), None, [])
    assert result.outcome is Outcome.MISSING_INPUT
    assert result.columns["text_de_outcome"] is Outcome.MISSING_INPUT
    assert result.error == "render: column 'text' has no value"


def test_the_language_from_a_column() -> None:
    made = task(targets=("de", "fr"), source="auto", source_column="lang")
    row = {"text": FRENCH, "lang": "FR"}
    (prompt,) = prompts(made.prepare(row))
    assert "French (fr) to German (de)" in prompt
    assert "text_language" not in made.result_schema.names
    prepared = made.prepare({"text": FRENCH, "lang": "frennch" * 100})
    result = made.result(prepared.state, [])
    assert result.outcome is Outcome.MISSING_INPUT
    assert "lang" in str(result.error)
    assert len(str(result.error)) < 250
    prepared = made.prepare({"text": FRENCH, "lang": None})
    assert prepared.requests == ()
    error = made.result(prepared.state, []).error
    assert error == "render: 'lang', the text's language, is null"


def test_a_long_text_is_cut_and_put_together() -> None:
    made = task(chunk_tokens=40, context_tokens=8, check_language=False)
    text = "\n\n".join(f"This is paragraph {number} of the text. " * 3 for number in range(20))
    prepared = made.prepare({"text": text})
    assert len(prepared.requests) > 5
    marker = "into German:\n\n\n"
    chunks = [prompt.split(marker)[1] for prompt in prompts(prepared)]
    assert all(len(chunk.split()) <= 40 for chunk in chunks)
    assert not prompts(prepared)[0].startswith("This text comes right before")
    later = prompts(prepared)[1:]
    assert all(prompt.startswith("This text comes right before") for prompt in later)
    assert answered(made, text, chunks).columns["text_de"] == text
    cut = [said(chunks[0], "length"), *chunks[1:]]
    assert answered(made, text, cut).outcome is Outcome.TRUNCATED


def test_a_chunk_and_its_answer_fit_into_the_model() -> None:
    class Small(Words):
        max_model_len = 300

    made = task(chunk_tokens=10_000).measured(Small())
    text = "This is a sentence of exactly nine words here. " * 200
    for request in made.prepare({"text": text}).requests:
        length = len(request.prompt.split()) + request.sampling.max_tokens
        assert length <= 300
    limited = task(chunk_tokens=10_000, max_tokens=50).measured(Small())
    requests = limited.prepare({"text": text}).requests
    assert {request.sampling.max_tokens for request in requests} == {50}
    assert max(len(request.prompt.split()) for request in requests) > 100


GLOSSARY = Glossary(("en", "de"), (("harbour", "Hafen"), ("buoy", "Boje")))


def test_there_is_room_for_terms() -> None:
    rows = tuple((f"harbour{number}", f"Hafen {number} von vieren") for number in range(40))
    text = " ".join(term for term, _ in rows) + "."

    class Small(Words):
        max_model_len = 450

    made = task(glossary=Glossary(("en", "de"), rows), chunk_tokens=10_000).measured(Small())
    for request in made.prepare({"text": text}).requests:
        assert len(request.prompt.split()) + request.sampling.max_tokens <= 450


def test_terms_are_asked_for_and_checked() -> None:
    made = task(glossary=GLOSSARY)
    (prompt,) = prompts(made.prepare({"text": ENGLISH}))
    assert prompt.startswith("Translate these terms as given:\nharbour: Hafen\n\nYou are a")
    assert answered(made, ENGLISH, [GERMAN]).columns["text_de_lost"] == []
    other = GERMAN.replace("Hafen", "Seehof")
    lost = answered(made, ENGLISH, [other]).columns["text_de_lost"]
    assert lost == ["harbour -> Hafen"]


def test_a_template_that_asks_for_languages_is_given_the_text_alone() -> None:
    made = task(asks_languages=True, glossary=GLOSSARY, targets=("de", "fr"))
    for request, target in zip(made.prepare({"text": ENGLISH}).requests, ("de", "fr"), strict=True):
        assert (request.prompt, request.languages) == (ENGLISH, ("en", target))
    image = TranslationTask(targets=("de",), image_column="photo", source="en", asks_languages=True)
    (request,) = image.prepare({"photo": b"x"}).requests
    assert (request.prompt, request.languages) == ("", ("en", "de"))
    assert request.images[0].value == b"x"


def test_the_text_in_an_image() -> None:
    made = TranslationTask(targets=("de",), image_column="photo", source="en")
    prepared = made.prepare({"photo": b"x"})
    expected = image_prompt(find_language("en"), find_language("de"))
    assert prompts(prepared) == [expected]
    result = made.result(prepared.state, [said(f" {GERMAN} ")])
    assert result.columns == {"photo_de": GERMAN, "photo_de_outcome": Outcome.OK}


def test_settings_make_the_same_task_again() -> None:
    made = task(glossary=GLOSSARY, targets=("de", "fr"), max_tokens=9)
    again = TranslationTask(**json.loads(json.dumps(made.settings)))
    assert again == made
    assert again.glossary == GLOSSARY


def task_of(model: Path, **options: object) -> TranslationTask:
    made = configure(JOBS["translate"], {"model": str(model), **options}).task()
    assert isinstance(made, TranslationTask)
    return made


def test_options_become_a_task(gemma_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "terms.csv").write_text("en,de\nharbour,Hafen\n")
    made = task_of(gemma_folder, to="DE, pt_br", source="EN", glossary=str(tmp_path / "terms.csv"))
    assert (made.targets, made.source, made.asks_languages) == (("de", "pt-BR"), "en", False)
    assert made.glossary == Glossary(("en", "de"), (("harbour", "Hafen"),))
    (gemma_folder / "chat_template.jinja").write_text("{{ source_lang_code }} {'de': 'German'}")
    assert task_of(gemma_folder, to="de").asks_languages
    with pytest.raises(UserError, match="'fr': the model's own template does not know"):
        task_of(gemma_folder, to="de,fr")


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"to": "deu"}, "^to: 'deu' is not .*Did you mean 'de'"),
        ({"to": "german"}, "^to: 'german' is not .*Did you mean 'de'"),
        ({"to": "de,DE"}, "'text_de'; name each language once"),
        ({"to": "de", "source": "xx"}, "^source: 'xx'"),
        ({"to": "de", "image_column": "photo"}, "source: is not detected in images"),
        ({"to": "de", "source": "en", "source_column": "lang"}, "leave source out"),
        ({"to": "de", "glossary": "/no/terms.csv"}, "cannot be read"),
        ({"to": ""}, "to: "),
    ],
)
def test_wrong_options_are_told_in_a_line(
    gemma_folder: Path, options: dict[str, object], fault: str
) -> None:
    with pytest.raises(UserError, match=fault) as told:
        task_of(gemma_folder, **options)
    assert "\n" not in str(told.value)


def test_texts_are_columns_of_text() -> None:
    from pipeline.sources import check_columns

    texts = [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())]
    for type_ in texts:
        check_columns(pa.schema([("text", type_)]), {"text": ColumnKind.TEXT})
    for type_ in (pa.binary(), pa.int64(), pa.list_(pa.string())):
        with pytest.raises(UserError, match="a text column is string"):
            check_columns(pa.schema([("text", type_)]), {"text": ColumnKind.TEXT})
