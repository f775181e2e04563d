"""The caption task: its requests, and its result columns."""

from __future__ import annotations

import json
from dataclasses import replace

import pyarrow as pa
import pytest

from jobs.captioning.styles import STYLES
from jobs.captioning.task import CaptionTask
from jobs.registry import JOBS, find_model
from jobs.sdk.assembly import configure
from pipeline import ColumnKind, Generation, Outcome, RowError, UserError


def generation(text: str, finish_reason: str = "stop", others: tuple[str, ...] = ()) -> Generation:
    return Generation(
        text, prompt_tokens=30, output_tokens=5, finish_reason=finish_reason, others=others
    )


def task_of(**options: object) -> CaptionTask:
    task = configure(JOBS["caption"], {"model": "/models/gemma", **options}).task()
    assert isinstance(task, CaptionTask)
    return task


def test_a_caption_is_one_request_with_the_images_before_the_prompt() -> None:
    task = CaptionTask(prompt="Say it.", image_column="photo", max_tokens=9)
    assert task.columns == {"photo": ColumnKind.IMAGES}
    (request,) = task.prepare({"photo": b"bytes"}).requests
    assert (request.prompt, request.sampling.max_tokens, request.system) == ("Say it.", 9, None)
    assert [image.value for image in request.images] == [b"bytes"]
    (request,) = task.prepare({"photo": [b"1", None, "3.png"]}).requests
    assert [image.value for image in request.images] == [b"1", None, "3.png"]
    with pytest.raises(RowError, match="list of images is empty") as fault:
        task.prepare({"photo": []})
    assert fault.value.outcome is Outcome.MISSING_INPUT


def test_columns_in_the_prompt_are_filled_in_as_text() -> None:
    task = task_of(prompt="Describe {title} ({year}) as {{json}}")
    assert [*task.columns] == ["image", "title", "year"]
    row = {"title": "{year} <start_of_image>", "year": None, "image": b""}
    (request,) = task.prepare(row).requests
    assert request.prompt == "Describe {year} <start_of_image> () as {json}"


@pytest.mark.parametrize("prompt", ["{", "a } b", "{}", "{0!r}", "{title:>3}", '{"a": 1}'])
def test_braces_that_name_no_column_are_refused(prompt: str) -> None:
    with pytest.raises(UserError, match=r"^prompt: .*write \{\{ and \}\} for braces$"):
        task_of(prompt=prompt)


def test_a_column_of_images_cannot_be_in_the_prompt() -> None:
    with pytest.raises(UserError, match="'image' holds images"):
        task_of(prompt="Describe {image}")


def test_an_answer_that_was_cut_is_truncated_and_kept() -> None:
    task = CaptionTask(prompt="Say it.")
    whole = task.result(None, [generation(" a dog \n")])
    assert (whole.columns, whole.outcome) == ({"caption": "a dog"}, Outcome.OK)
    cut = task.result(None, [generation("a dog on", "length")])
    assert (cut.columns, cut.outcome) == ({"caption": "a dog on"}, Outcome.TRUNCATED)


ASKS = "Please provide me with the image you would like me to describe."
LOOP = "circle circle circle circle"


@pytest.mark.parametrize(
    ("answer", "outcome", "error"),
    [
        (generation(ASKS), Outcome.REFUSED, "parse: the answer declines the request: 'Please prov"),
        (generation(LOOP), Outcome.REPETITION, f"parse: the answer repeats itself: '{LOOP}'"),
        (generation(LOOP, "length"), Outcome.REPETITION, "parse: the answer repeats itself"),
        (generation("a b", "repetition"), Outcome.REPETITION, "parse: the answer repeats itself"),
    ],
)
def test_a_refusal_and_a_loop_are_no_captions(
    answer: Generation, outcome: Outcome, error: str
) -> None:
    task = CaptionTask(prompt="Say it.")
    assert task.sampling.ends_loops
    with pytest.raises(RowError) as fault:
        task.result(None, [answer])
    assert fault.value.outcome is outcome
    assert str(fault.value).startswith(error)


def test_a_further_caption_that_is_none_is_null() -> None:
    task = task_of(n=4, temperature=1.0)
    result = task.result(None, [generation("a dog", others=(ASKS, "a cat", LOOP))])
    assert result.columns["captions"] == ["a dog", None, "a cat", None]
    assert result.outcome is Outcome.OK


def test_a_further_json_of_another_kind_is_null() -> None:
    task = task_of(n=3, temperature=1.0, json_schema='{"type": "integer"}')
    result = task.result(None, [generation("1", others=("99999999999999999999", "[2]"))])
    assert result.columns == {"caption": 1, "captions": [1, None, None]}


def test_a_json_that_is_a_loop_is_no_caption_and_its_texts_are_the_users() -> None:
    loop = generation('["a dog", "a dog", "a do', "repetition")
    with pytest.raises(RowError, match="repeats itself"):
        task_of(style="tags").result(None, [loop])
    told = task_of(style="tags").result(None, [generation(f'["a dog", "{ASKS}"]')])
    assert told.columns == {"caption": ["a dog", ASKS]}


@pytest.mark.parametrize("text", [ASKS, "SALE SALE SALE SALE", "Item | Paid\n" + "Yes\n" * 30, ""])
def test_what_is_written_in_an_image_may_be_anything(text: str) -> None:
    for task in (task_of(style="ocr"), task_of(style="ocr", language="fr")):
        assert not task.sampling.ends_loops
        assert task.result(None, [generation(text)]).columns == {"caption": text.strip()}


def test_an_empty_caption_is_none() -> None:
    with pytest.raises(RowError, match="the answer is empty") as fault:
        CaptionTask(prompt="Say it.").result(None, [generation(" \n")])
    assert fault.value.outcome is Outcome.REFUSED


def test_tags_are_a_list() -> None:
    task = task_of(style="tags")
    assert task.result_schema == pa.schema([("caption", pa.list_(pa.string()))])
    result = task.result(None, [generation('["a dog", "grass"]')])
    assert result.columns == {"caption": ["a dog", "grass"]}


def test_a_json_that_was_cut_is_no_result() -> None:
    with pytest.raises(RowError, match="raise --max-tokens") as fault:
        task_of(style="tags").result(None, [generation('["a dog", "gr', "length")])
    assert fault.value.outcome is Outcome.TOO_LONG


def test_several_captions_are_a_list_beside_the_first() -> None:
    task = task_of(n=3, temperature=0.8, top_p=0.9, top_k=40, seed=2)
    assert task.sampling.n == 3
    assert (task.sampling.temperature, task.sampling.top_p) == (0.8, 0.9)
    assert (task.sampling.top_k, task.sampling.seed) == (40, 2)
    result = task.result(None, [generation(" a", others=("b ", "c"))])
    assert result.columns == {"caption": "a", "captions": ["a", "b", "c"]}
    assert task.result_schema.names == ["caption", "captions"]
    tags = task_of(n=2, temperature=1, style="tags")
    assert tags.result(None, [generation('["a"]', others=('["b',))]).columns == {
        "caption": ["a"],
        "captions": [["a"], None],
    }


def test_a_language_is_asked_for_by_its_name() -> None:
    assert task_of(language="fr").prompt.endswith(" Answer in French.")
    assert task_of(language="fr", prompt="Say it.").prompt == "Say it. Answer in French."


def test_every_style_can_be_asked_for() -> None:
    for name, style in STYLES.items():
        task = task_of(style=name)
        assert (task.prompt, task.max_tokens) == (style.prompt, style.max_tokens)
    assert task_of(style="ocr", max_tokens=7).max_tokens == 7
    assert task_of().prompt == STYLES["sentence"].prompt
    with pytest.raises(UserError, match="did you mean 'dense'"):
        task_of(style="dens")


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"style": "alt", "prompt": "x"}, "replaces the style"),
        ({"style": "alt", "json_schema": "{}"}, "one of the two"),
        ({"n": 2}, "need a temperature"),
    ],
)
def test_options_that_exclude_each_other_are_refused(
    options: dict[str, object], fault: str
) -> None:
    with pytest.raises(UserError, match=fault):
        task_of(**options)


@pytest.mark.parametrize(
    ("options", "prompt", "stop"),
    [
        ({}, "This image, described in one sentence:", "\n"),
        ({"style": "alt", "language": "fr"}, "Alt text of this image in French:", "\n"),
        ({"style": "ocr"}, "All text in this image:", "\n\n"),
        ({"prompt": "A photo of"}, "A photo of", "\n"),
        ({"style": "tags"}, "Tags of this image, as a JSON list of strings:", None),
        ({"prompt": "{}", "json_schema": '{"type": "object"}'}, None, None),
    ],
)
def test_a_base_model_continues_raw_text(
    options: dict[str, object], prompt: str | None, stop: str | None
) -> None:
    options = {**options, "prompt": "As JSON:"} if prompt is None else options
    task = task_of(prompt_format="raw", **options)
    (request,) = task.prepare({"image": b""}).requests
    assert request.prompt == (prompt or "As JSON:")
    assert request.sampling.stop == (() if stop is None else (stop,))
    assert len(request.images) == 1


def test_a_raw_prompt_of_ones_own_says_its_language_itself() -> None:
    with pytest.raises(UserError, match=r"^language: is not added to a raw prompt"):
        task_of(prompt_format="raw", prompt="A photo of", language="fr")


def test_in_turns_nothing_stops_a_caption_but_its_end() -> None:
    for prompt_format in (None, "gemma", "template"):
        assert task_of(prompt_format=prompt_format).sampling.stop == ()
    assert task_of().settings["stop"] is None  # as a name that is absent from an earlier record


def test_the_captions_column_is_called_as_asked() -> None:
    task = task_of(output_column="alt", n=2, temperature=1)
    assert task.result_schema.names == ["alt", "alts"]
    found = task.result(None, [generation("a dog", others=("a cat",))])
    assert found.columns == {"alt": "a dog", "alts": ["a dog", "a cat"]}
    assert task_of(output_column="caption") == task_of()
    assert task_of().settings["output_column"] is None  # as a name that is absent from a record
    for name in ("outcome", "row_key", "position"):
        with pytest.raises(UserError, match=f"^output_column: '{name}' is what a run adds"):
            task_of(output_column=name)


def test_settings_make_the_same_task_again() -> None:
    task = task_of(style="tags", n=2, temperature=1, system="Be terse.", output_column="tags")
    assert CaptionTask(**json.loads(json.dumps(task.settings))) == task


def test_what_is_around_a_caption_is_cut_when_asked_and_kept_beside_it() -> None:
    task = task_of(clean=True)
    assert task.result_schema.names == ["caption", "caption_raw"]
    told = task.result(None, [generation('Here is a caption: "a dog"')])
    assert told.columns == {"caption": "a dog", "caption_raw": 'Here is a caption: "a dog"'}
    assert task.result(None, [generation(" a dog\n")]).columns == {
        "caption": "a dog",
        "caption_raw": None,
    }
    drawn = task_of(clean=True, n=2, temperature=1.0)
    told = drawn.result(None, [generation("a dog", others=("Caption: a cat",))])
    assert told.columns["captions"] == ["a dog", "a cat"]
    for style in ("tags", "ocr"):  # of a form that is kept to, or what is written in the image
        assert task_of(clean=True, style=style).result_schema.names == ["caption"]
    with pytest.raises(RowError, match="declines"):
        task.result(None, [generation(f'"{ASKS}"')])


def test_the_quality_is_the_mean_log_probability() -> None:
    task = task_of(quality=True)
    answer = replace(generation("a dog"), mean_log_probability=-0.25)
    assert task.result(None, [answer]).columns == {"caption": "a dog", "caption_quality": -0.25}


def test_so_many_words_are_asked_for() -> None:
    assert task_of(prompt="Say it.", max_words=9).prompt == "Say it. Use at most 9 words."
    assert task_of(language="fr", max_words=9).prompt.endswith(
        "Answer in French. Use at most 9 words."
    )
    alt = task_of(style="alt", max_words=9).prompt
    assert "in at most 9 words. Do not" in alt
    assert "15" not in alt
    for options in ({"style": "tags"}, {"style": "ocr"}, {"prompt_format": "raw"}):
        with pytest.raises(UserError, match=r"^max_words: "):
            task_of(max_words=9, **options)


def test_a_raw_caption_ends_with_its_line_and_where_the_user_says() -> None:
    assert task_of(prompt_format="raw", stop="END").sampling.stop == ("\n", "END")
    assert task_of(stop=["a", "b"]).sampling.stop == ("a", "b")


def test_the_bundled_model_runs_in_the_precision_it_was_made_for() -> None:
    from jobs.demo.phrases import CAPTION_PROMPT

    demo = find_model("demo")
    assert (demo.dtype, demo.caption_prompt) == ("float32", CAPTION_PROMPT)
    assert find_model("/some/folder").path == "/some/folder"
    assert find_model("/some/folder").dtype == "auto"
