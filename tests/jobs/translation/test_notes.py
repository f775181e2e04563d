"""What a user says of all texts, what a column says of one, and answers fit to use."""

from __future__ import annotations

import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.registry import JOBS
from jobs.sdk.assembly import configure
from jobs.translation.in_order import TranslationInOrder
from jobs.translation.prompts import beginning
from jobs.translation.task import ABOUT_TOKENS, TranslationTask
from pipeline import ColumnKind, Generation, Outcome, Prepared, Result, RowError, UserError
from pipeline.contract.task import FollowsUp
from tests.jobs.translation.test_task import ENGLISH, GERMAN, Words, answered, prompts, said, task
from tests.jobs.translation.test_translategemma import TEMPLATE

TWO = f"# {ENGLISH}\n\n- Good morning."


def test_instructions_and_what_a_text_is_about_precede_the_prompt() -> None:
    plain = prompts(task().prepare({"text": ENGLISH}))
    made = task(instructions="Formal {x} German.", context_column="title")
    assert made.columns == {"text": ColumnKind.TEXT, "title": ColumnKind.VALUE}
    assert prompts(made.prepare({"text": ENGLISH, "title": None})) == [
        f"Follow these instructions in the translation: Formal {{x}} German.\n\n{plain[0]}"
    ]
    for text in (TWO, ENGLISH):
        found = prompts(task(context_column="title").prepare({"text": text, "title": "A harbour"}))
        begin = (
            "This is what the text is about, for your understanding. Do not translate it:\n"
            "A harbour\n\n"
        )
        assert [prompt.removeprefix(begin) for prompt in found] == prompts(
            task().prepare({"text": text})
        )


def test_the_text_in_an_image_is_translated_as_instructed() -> None:
    own = {"text_columns": (), "image_column": "photo", "source": "en"}
    row = {"photo": b"", "title": 7}
    (plain,) = prompts(task(**own).prepare(row))
    (made,) = prompts(task(**own, instructions="Formal.", context_column="title").prepare(row))
    assert made.startswith("Follow these instructions in the translation: Formal.\n\nThis is what")
    assert made.endswith(f"\n7\n\n{plain}")


def test_a_long_context_is_cut_at_a_word_and_leaves_room() -> None:
    def count(text: str) -> int:
        return len(text) // 2

    assert beginning("  one two three ", 50, count) == "one two three"
    cut = beginning("word " * 10_000, 50, count)
    assert 60 < len(cut) <= 100
    assert cut.endswith("word")
    assert len(beginning("x" * 10_000, 50, count)) <= 101
    words = "w " * (ABOUT_TOKENS * 3)
    made = task(context_column="title", chunk_tokens=5000)
    longest = max(
        made._text_meter.count(request.prompt) + request.sampling.max_tokens
        for request in made.prepare({"text": f"{ENGLISH} " * 500, "title": words}).requests
    )
    assert longest <= Words.max_model_len


@pytest.mark.parametrize("option", ["instructions", "context_column", "consistent"])
def test_they_are_refused_where_no_prompt_has_them(gemma_folder: Path, option: str) -> None:
    def made(**options: object) -> object:
        value = True if option == "consistent" else "x"
        own = {"model": str(gemma_folder), "to": "de", "source": "en", option: value}
        return configure(JOBS["translate"], {**own, **options}).task()

    with pytest.raises(UserError, match=f"^{option}: a base model heeds none"):
        made(prompt_format="raw")
    shutil.copy(TEMPLATE, gemma_folder / "chat_template.jinja")
    with pytest.raises(UserError, match=f"^{option}: this model.s chat template writes the whole"):
        made()


def test_what_is_around_each_answer_is_cut_when_asked() -> None:
    said_ = [f"Hier ist die Übersetzung: {GERMAN}", '"Guten Morgen."']
    made = task(clean=True)
    result = answered(made, TWO, said_)
    assert result.columns["text_de"] == f"# {GERMAN}\n\n- Guten Morgen."
    assert result.columns["text_de_raw"] == f"# {said_[0]}\n\n- {said_[1]}"
    whole = answered(made, ENGLISH, [GERMAN])
    assert (whole.columns["text_de"], whole.columns["text_de_raw"]) == (GERMAN, None)
    assert answered(made, "“Good morning.”", ["„Guten Morgen.“"]).columns["text_de"] == (
        "„Guten Morgen.“"
    )
    assert "text_de_raw" not in answered(task(), ENGLISH, [GERMAN]).columns


def test_the_quality_of_a_document_is_the_mean_of_its_tokens() -> None:
    made = task(quality=True)
    first = replace(said(GERMAN), output_tokens=30, mean_log_probability=-0.1)
    second = replace(said("Guten Morgen."), output_tokens=10, mean_log_probability=-0.5)
    assert answered(made, TWO, [first, second]).columns["text_de_quality"] == pytest.approx(-0.2)
    assert answered(made, "123", []).columns["text_de_quality"] is None


class Harbour:
    """Answers in the order in which a row's requests are made, and keeps their prompts."""

    def __init__(self, made: TranslationTask) -> None:
        self.made = made
        self.rounds: list[list[str]] = []

    def translate(self, text: str, *, failing: str = "") -> Result:
        """Each chunk becomes its number, in the order of the requests."""
        generations: list[Generation] = []
        prepared: Prepared | None = self.made.prepare({"text": text})
        while prepared is not None:
            state = pickle.loads(pickle.dumps(prepared.state))  # as it travels
            self.rounds.append(prompts(prepared))
            for prompt in prompts(prepared):
                fault = RowError(Outcome.ENGINE_ERROR, "generate", "lost")
                lost = fault if failing and failing in prompt else None
                answer = "" if lost else f"Stück {len(generations)}."
                generations.append(replace(said(answer), failure=lost))
            prepared = self.made.follow_up(state, generations)  # type: ignore[attr-defined]
        return self.made.result(state, generations)


def in_order(**fields: object) -> TranslationTask:
    settings = {"targets": ("de", "fr"), "text_columns": ("text",), "source": "en", **fields}
    settings |= {"consistent": True, "check_language": False}
    made = TranslationInOrder(**settings)  # type: ignore[arg-type]
    return made.measured(Words())


THREE = f"# {ENGLISH}\n\n- Good morning.\n- Good night."


def test_each_chunk_is_shown_how_the_one_before_was_translated() -> None:
    harbour = Harbour(in_order(context_tokens=8))
    result = harbour.translate(THREE)
    plain = prompts(task(targets=("de", "fr"), context_tokens=8).prepare({"text": THREE}))
    assert harbour.rounds[0] == [plain[0], plain[3]]
    for number, begin in ((1, 0), (2, 2)):
        for place, shown in enumerate((begin, begin + 1)):
            assert harbour.rounds[number][place] == (
                "The text right before was translated like this. Use the same words for the same "
                f"things:\nStück {shown}.\n\n{plain[number + 3 * place]}"
            )
    assert result.columns["text_de"] == "# Stück 0.\n\n- Stück 2.\n- Stück 4."
    assert result.columns["text_fr"] == "# Stück 1.\n\n- Stück 3.\n- Stück 5."


def test_after_a_chunk_that_failed_the_next_is_asked_without_it() -> None:
    harbour = Harbour(in_order(targets=("de",)))
    result = harbour.translate(THREE, failing="Good morning.")
    assert [len(requests) for requests in harbour.rounds] == [1, 1, 1]
    assert "translated like this" in harbour.rounds[1][0]
    assert "translated like this" not in harbour.rounds[2][0]
    assert result.outcome is Outcome.ENGINE_ERROR
    assert not Harbour(in_order()).translate("123").error


def test_a_task_in_order_is_made_by_the_option_and_by_the_record(gemma_folder: Path) -> None:
    own = {"model": str(gemma_folder), "to": "de", "source": "en"}
    with pytest.raises(UserError, match=r"consistent: .* context_tokens 0 leaves no room"):
        configure(JOBS["translate"], {**own, "consistent": True, "context_tokens": 0}).task()
    made = configure(JOBS["translate"], {**own, "consistent": True}).task()
    assert isinstance(made, TranslationInOrder)
    assert isinstance(made, FollowsUp)
    assert JOBS["translate"].restore(**made.settings) == made
    plain = configure(JOBS["translate"], own).task()
    assert not isinstance(plain, FollowsUp)
    assert type(JOBS["translate"].restore(**plain.settings)) is TranslationTask
