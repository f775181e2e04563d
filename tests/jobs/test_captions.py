from __future__ import annotations

import pytest

from jobs.captions import CaptionTask
from jobs.models import find_model
from pipeline import ColumnKind, Generation, Outcome, UserError


def generation(text: str, finish_reason: str) -> Generation:
    return Generation(text, prompt_tokens=30, output_tokens=5, finish_reason=finish_reason)


def test_a_caption_is_one_request_with_the_picture_before_the_prompt() -> None:
    task = CaptionTask(prompt="Say it.", image_column="photo", max_tokens=9)
    assert task.columns == {"photo": ColumnKind.IMAGE}
    (request,) = task.prepare({"photo": b"bytes"}).requests
    assert (request.prompt, request.sampling.max_tokens, request.system) == ("Say it.", 9, None)
    assert [image.value for image in request.images] == [b"bytes"]


def test_an_answer_that_was_cut_is_truncated_and_kept() -> None:
    task = CaptionTask(prompt="Say it.")
    whole = task.result(None, [generation(" a dog \n", "stop")])
    assert (whole.columns, whole.outcome) == ({"caption": "a dog"}, Outcome.OK)
    cut = task.result(None, [generation("a dog on", "length")])
    assert (cut.columns, cut.outcome) == ({"caption": "a dog on"}, Outcome.TRUNCATED)


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(UserError, match="max_tokens"):
        CaptionTask(prompt="Say it.", max_tokens=0)


def test_the_bundled_model_runs_in_the_precision_it_was_made_for() -> None:
    from jobs.demo.phrases import CAPTION_PROMPT

    demo = find_model("demo")
    assert (demo.dtype, demo.caption_prompt) == ("float32", CAPTION_PROMPT)
    assert find_model("/some/folder").path == "/some/folder"
    assert find_model("/some/folder").dtype == "auto"
