"""The options of every job that has the model write text, and what a run records of them."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.captioning.task import CaptionTask
from jobs.options.writing import WRITING
from jobs.registry import JOBS
from jobs.sdk.assembly import configure
from jobs.translation.task import TranslationTask
from pipeline import UserError

WANTED = {
    "stop": ["END"],
    "presence_penalty": 0.5,
    "frequency_penalty": -0.5,
    "repetition_penalty": 1.2,
    "clean": True,
    "quality": True,
}
BEFORE = {
    "caption": {
        "prompt", "image_column", "max_tokens", "system", "json_schema", "stop", "n",
        "temperature", "top_p", "top_k", "seed",
    },
    "translate": {
        "targets", "text_columns", "image_column", "source", "source_column", "asks_languages",
        "examples", "glossary", "chunk_tokens", "context_tokens", "max_tokens", "check_language",
    },
}  # fmt: skip
"""What runs recorded before there were these options."""


def task_of(job: str, gemma: object, **options: object) -> Any:
    own = {"to": "de", "source": "en"} if job == "translate" else {}
    return configure(JOBS[job], {"model": str(gemma), **own, **options}).task()


@pytest.mark.parametrize("job", [*BEFORE])
def test_each_reaches_the_sampling(job: str, gemma_folder: object) -> None:
    task = task_of(job, gemma_folder, **WANTED)
    sampling = task.sampling if isinstance(task, CaptionTask) else task._sampling(9)
    assert sampling.stop == ("END",)
    assert (sampling.presence_penalty, sampling.frequency_penalty) == (0.5, -0.5)
    assert (sampling.repetition_penalty, sampling.mean_log_probability) == (1.2, True)
    assert {*WANTED} == {*WRITING}


@pytest.mark.parametrize("job", [*BEFORE])
def test_left_out_they_change_neither_the_record_nor_the_columns(
    job: str, gemma_folder: object
) -> None:
    plain, wanted = task_of(job, gemma_folder), task_of(job, gemma_folder, **WANTED)
    later = {name: value for name, value in plain.settings.items() if name not in BEFORE[job]}
    assert {*later.values()} <= {None}  # as if they were not recorded
    assert {*wanted.settings} == {*plain.settings} | {*WRITING}
    added = {*wanted.result_schema.names} - {*plain.result_schema.names}
    name = "caption" if job == "caption" else "text_de"
    assert added == {f"{name}_raw", f"{name}_quality"}


def test_the_record_gives_the_same_translation_task_again(gemma_folder: object) -> None:
    task = task_of("translate", gemma_folder, **WANTED, instructions="Formal.")
    settings = {name: [*v] if isinstance(v, tuple) else v for name, v in task.settings.items()}
    assert TranslationTask(**settings) == task


@pytest.mark.parametrize(
    ("stop", "due"),
    [
        ("\n", ("\n",)),
        ("a,b", ("a,b",)),
        ('["\\n", "END"]', ("\n", "END")),
        (["x", "y"], ("x", "y")),
    ],
)
def test_a_stop_is_a_text_as_it_is_or_several(stop: object, due: tuple[str, ...]) -> None:
    assert configure(JOBS["caption"], {"model": "m", "stop": stop}).task().sampling.stop == due  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("stop", "", "stop: has an empty text"),
        ("stop", ["a", ""], "stop: has an empty text"),
        ("stop", 3, "stop: should be a text, or several as a list"),
        ("presence_penalty", 2.5, "presence_penalty: input should be less than or equal to 2"),
        ("frequency_penalty", -3, "frequency_penalty: input should be greater than or equal to -2"),
        ("repetition_penalty", 0, "repetition_penalty: input should be greater than 0"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(option: str, value: object, told: str) -> None:
    with pytest.raises(UserError, match=f"^{told}"):
        configure(JOBS["caption"], {"model": "m", option: value})
