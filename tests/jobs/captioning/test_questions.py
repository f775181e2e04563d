"""Several questions about an image: what is asked when, and what becomes of the answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from jobs.captioning.job import restored_task
from jobs.captioning.questions import QuestionsTask
from jobs.registry import JOBS
from jobs.sdk.assembly import configure
from pipeline import ColumnKind, Generation, Outcome, Prepared, Request, Result, RowError, UserError
from pipeline.contract.adapted import adapted
from pipeline.contract.task import FollowsUp, VideoRef

YAML = """\
- name: caption
  prompt: Describe this {kind} in one sentence.
- name: tags
  style: tags
  max_tokens: 64
- name: title
  prompt: "Write a title. The image shows: {caption} Tags: {tags}"
  image: false
  temperature: 0.5
- name: doubt
  prompt: "Is '{title}' a good title of this {kind}?"
  json_schema: {type: object, properties: {good: {type: boolean}}}
"""
ROW = {"image": b"bytes", "kind": "drawing"}
LOST = RowError(Outcome.ENGINE_ERROR, "generate", "the engine ended the request")


def task_of(prompts: object, **options: object) -> QuestionsTask:
    task = configure(JOBS["caption"], {"model": "/m", "prompts": prompts, **options}).task()
    assert isinstance(task, QuestionsTask)
    return task


@pytest.fixture
def task(tmp_path: Path) -> QuestionsTask:
    (tmp_path / "prompts.yaml").write_text(YAML)
    return task_of(str(tmp_path / "prompts.yaml"))


def said(text: str = "", finish_reason: str = "stop", **more: Any) -> Generation:
    return Generation(text, 9, 3, finish_reason, **more)


def asked(
    task: QuestionsTask, answers: Mapping[str, Generation]
) -> tuple[list[list[Request]], Result]:
    """All that is asked about a row, round by round, and its result.

    Args:
        task: The questions.
        answers: By a word of the prompt.
    """
    rounds, generations = [], list[Generation]()
    prepared: Prepared | None = task.prepare(ROW)
    while prepared is not None:
        state = prepared.state
        rounds.append([*prepared.requests])
        for request in prepared.requests:
            (answer,) = (answers[word] for word in answers if word in request.prompt)
            generations.append(answer)
        prepared = task.follow_up(state, generations)
    return rounds, task.result(state, generations)


GOOD = {
    "Describe": said("a red circle"),
    "List tags": said('["circle", "red"]'),
    "Write": said("Red"),
    "good title": said('{"good": true}'),
}


def test_each_question_is_a_column_with_its_outcome(task: QuestionsTask) -> None:
    assert task.result_schema == pa.schema(
        [
            ("caption", pa.string()),
            ("caption_outcome", pa.string()),
            ("tags", pa.list_(pa.string())),
            ("tags_outcome", pa.string()),
            ("title", pa.string()),
            ("title_outcome", pa.string()),
            ("doubt", pa.struct([("good", pa.bool_())])),
            ("doubt_outcome", pa.string()),
        ]
    )
    assert task.columns == {"image": ColumnKind.IMAGES, "kind": ColumnKind.VALUE}


def test_a_question_is_asked_once_the_answers_in_it_are_there(task: QuestionsTask) -> None:
    (first, second, third), result = asked(task, GOOD)
    caption, tags = first
    assert caption.prompt == "Describe this drawing in one sentence."
    assert (tags.sampling.max_tokens, tags.sampling.json_schema is None) == (64, False)
    assert [[image.value for image in request.images] for request in first] == [[b"bytes"]] * 2
    (title,) = second
    assert title.prompt == ('Write a title. The image shows: a red circle Tags: ["circle", "red"]')
    assert (title.images, title.images_of, title.sampling.temperature) == ((), None, 0.5)
    (doubt,) = third
    assert doubt.prompt == "Is 'Red' a good title of this drawing?"
    assert (doubt.images, doubt.images_of) == ((), 0)
    assert result.outcome is Outcome.OK
    assert result.error is None
    assert {name: value for name, value in result.columns.items() if "_" not in name} == {
        "caption": "a red circle",
        "tags": ["circle", "red"],
        "title": "Red",
        "doubt": {"good": True},
    }
    outcomes = [value for name, value in result.columns.items() if name.endswith("_outcome")]
    assert outcomes == ["ok"] * 4


def test_braces_in_an_answer_stay() -> None:
    task = task_of({"caption": "Describe this.", "title": "Title of: {caption}"})
    rounds, _ = asked(task, {"Describe": said("{kind} {{x}}"), "Title": said("x")})
    assert rounds[1][0].prompt == "Title of: {kind} {{x}}"


def test_a_question_that_fails_costs_those_alone_that_use_its_answer(task: QuestionsTask) -> None:
    rounds, result = asked(task, {**GOOD, "List tags": said(failure=LOST)})
    assert [len(requests) for requests in rounds] == [2]
    assert result.partial
    assert result.outcome is Outcome.ENGINE_ERROR
    assert result.error == (
        "tags: generate: the engine ended the request; "
        "title: render: 'tags' has no answer to ask about; "
        "doubt: render: 'title' has no answer to ask about"
    )
    assert result.columns == {
        "caption": "a red circle",
        "caption_outcome": "ok",
        **dict.fromkeys(("tags_outcome", "title_outcome", "doubt_outcome"), "engine_error"),
    }


@pytest.mark.parametrize("answer", ['["circle"]', '"yes"', '{"good": 99}', '{"good": "\\ud83d"}'])
def test_a_json_of_another_kind_costs_its_own_question_alone(
    task: QuestionsTask, answer: str
) -> None:
    _, result = asked(task, {**GOOD, "good title": said(answer)})
    assert result.columns["doubt_outcome"] == "engine_error"
    assert result.columns["caption"] == "a red circle"
    assert "doubt" not in result.columns
    assert pa.Table.from_pylist([dict(result.columns)], schema=task.result_schema).num_rows == 1


def test_an_answer_that_is_cut_is_used_and_a_refusal_is_not(task: QuestionsTask) -> None:
    rounds, result = asked(task, {**GOOD, "Describe": said("a red circle on", "length")})
    assert "shows: a red circle on Tags" in rounds[1][0].prompt
    assert result.outcome is Outcome.TRUNCATED
    refusal = said("I'm sorry, I cannot see the image.")
    rounds, result = asked(task, {**GOOD, "Describe": refusal, "List tags": said("[")})
    assert len(rounds) == 1
    assert [result.columns[f"{name}_outcome"] for name in ("caption", "tags", "title")] == [
        "refused",
        "engine_error",
        "engine_error",
    ]


def test_an_image_that_fails_is_one_error_of_all() -> None:
    broken = said(failure=RowError(Outcome.DECODE_ERROR, "decode", "no image"))
    alone = task_of({"a": "Describe this.", "b": "List tags of this."})
    _, result = asked(alone, {"Describe": broken, "List tags": broken})
    assert (result.outcome, result.error) == (Outcome.DECODE_ERROR, "decode: no image")


def test_a_later_question_is_shown_the_image_with_one_that_had_it() -> None:
    task = task_of(
        [
            {"name": "a", "prompt": "Alone {kind}", "image": False},
            {"name": "b", "prompt": "Seen too"},
            {"name": "c", "prompt": "Then {a}"},
        ]
    )
    rounds, _ = asked(task, {"Alone": said("x"), "Seen": said("y"), "Then": said("z")})
    assert [request.images_of for request in rounds[1]] == [1]


def test_what_is_set_outside_holds_for_each_that_does_not_set_it() -> None:
    prompts = [{"name": "a"}, {"name": "b", "language": "fr", "max_tokens": 7, "quality": False}]
    task = task_of(prompts, language="de", max_tokens=9, quality=True, stop="END")
    first, second = task.questions
    assert "in German" in first.task.prompt
    assert "in French" in second.task.prompt
    assert (first.task.max_tokens, second.task.max_tokens) == (9, 7)
    assert first.task.sampling.stop == second.task.sampling.stop == ("END",)
    assert task.result_schema.names == ["a", "a_outcome", "a_quality", "b", "b_outcome"]


def test_the_record_gives_the_same_task_again(task: QuestionsTask) -> None:
    assert restored_task(**json.loads(json.dumps(task.settings))) == task


def test_no_is_norwegian_in_a_file_of_prompts_too(tmp_path: Path) -> None:
    file = tmp_path / "prompts.yaml"
    file.write_text(
        "- {name: a, prompt: 2024-01-02, language: no, clean: off, max_tokens: 010}\n"
        "- {name: b, image: no, json_schema: {type: object, additionalProperties: no}}\n"
    )
    first, second = task_of(str(file)).questions
    assert first.task.prompt == "2024-01-02 Answer in Norwegian."
    assert (first.task.clean, first.task.max_tokens) == (False, 10)
    assert (first.image, second.image) == (True, False)
    assert json.loads(second.task.json_schema or "")["additionalProperties"] is False


@pytest.mark.parametrize(
    ("prompts", "told"),
    [
        ("- name: a\n  promt: b", ":1: 'promt': there is no such key; did you mean 'prompt'?"),
        ("- name: a\n\n- {name: b, schema: x}", ":3: 'schema': there is no such key; did you mean"),
        ("- prompt: b", ":1: a prompt has no name; give it one"),
        ("a: b\na: c", ":2: there are two prompts 'a'; rename one"),
        ("- name: a b!c", ":1: name: 'a b!c' cannot be written in braces"),
        (
            "- name: a\n  style: tag",
            ":1: style: 'tag': there is no such style; did you mean 'tags'",
        ),
        ("- name: a\n  max_tokens: many", ":1: max_tokens: input should be a valid integer"),
        ("- name: a\n  image: 1", ":1: image: should be true or false (got 1)"),
        ("- name: a\n  prompt: 'Say {'", ":1: prompt: "),
        ("- name: a\n  prompt: 'Say {image}'", ":1: prompt: 'image' holds images"),
        ("just words", ": should be a list of prompts, each with name and prompt, or a mapping"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, prompts: str, told: str) -> None:
    file = tmp_path / "prompts.yaml"
    file.write_text(prompts)
    with pytest.raises(UserError) as error:
        task_of(str(file))
    assert str(error.value).startswith(f"prompts {file}{told}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("prompts", "told"),
    [
        (
            {"a": "of {b}", "b": "of {c}", "c": "of {a}"},
            r"wait for each other's answers \(. -> . ->",
        ),
        ({"a": "Say {a}"}, r"\(a -> a\)"),
        ({"a": "x", "a_outcome": "y"}, "two columns would be called 'a_outcome'"),
        ({"outcome": "x"}, "two columns would be called 'outcome'"),
        ({"position": "Where is it?"}, "two columns would be called 'position'"),
        ([{"name": "a", "image": False}], "at least one question should be shown the image"),
        ([], "prompts has no prompt; give at least one"),
    ],
)
def test_circles_and_names_that_clash_are_refused(prompts: object, told: str) -> None:
    with pytest.raises(UserError, match=told):
        task_of(prompts)


@pytest.mark.parametrize(
    "options",
    [
        {"prompt": "Say it."},
        {"style": "alt"},
        {"json_schema": {}},
        {"n": 2},
        {"output_column": "x"},
    ],
)
def test_options_that_ask_something_else_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(UserError, match=f"^{next(iter(options))}: "):
        task_of({"a": "x"}, temperature=1.0, **options)


def test_each_row_s_adapter_answers_all_its_questions(task: QuestionsTask) -> None:
    chosen = adapted(task, "style")
    assert isinstance(chosen, FollowsUp)
    prepared = chosen.prepare({**ROW, "style": "poet"})
    assert {request.adapter for request in prepared.requests} == {"poet"}
    answers = [GOOD["Describe"], GOOD["List tags"]]
    further = chosen.follow_up(prepared.state, answers)
    assert further is not None
    assert [request.adapter for request in further.requests] == ["poet"]
    last = chosen.follow_up(further.state, [*answers, GOOD["Write"]])
    assert last is not None
    result = chosen.result(last.state, [*answers, GOOD["Write"], GOOD["good title"]])
    assert result.outcome is Outcome.OK
    assert not isinstance(adapted(task_of({"a": "x"}).questions[0].task, "style"), FollowsUp)


def test_questions_are_of_videos_too() -> None:
    task = task_of({"a": "What happens?", "b": "Why: {a}"}, video_column="clip", frames=4)
    assert task.columns == {"clip": ColumnKind.VIDEO}
    assert task.most_frames == 4
    prepared = task.prepare({"clip": b"mp4"})
    assert prepared.requests[0].images == (VideoRef(b"mp4", 4, None),)
    further = task.follow_up(prepared.state, [said("a ball rolls")])
    assert further is not None
    assert (further.requests[0].prompt, further.requests[0].images_of) == ("Why: a ball rolls", 0)
