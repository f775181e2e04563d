"""A request as the body of an HTTP request."""

from __future__ import annotations

import base64
import io
import json
import pickle
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline import EngineConfig, ImageRef, Request, RowError, Sampling
from pipeline.engine.endpoint.renderer import EndpointRenderer, estimated_tokens, sampling_fields
from pipeline.engine.model_files import BUNDLED, load_tokenizer
from pipeline.images.decode import decode_image
from tests.pipeline.sample_images import encoded

MOST_PIXELS = 10**6
SCHEMA = '{"type": "array", "items": {"type": "string"}}'


def renderer(**fields: Any) -> EndpointRenderer:
    config = EngineConfig(model="gemma", endpoint="http://host/v1", prompt_format="template")
    return EndpointRenderer(config.model_copy(update={"served_by": "vllm", **fields}))


def body_of(request: Request, *images: Image.Image, **fields: Any) -> dict[str, Any]:
    return dict(renderer(**fields).render(request, images).prompt.body)


def gradient(mode: str = "RGB") -> Image.Image:
    values = np.arange(24 * 16 * 3, dtype=np.uint8).reshape(16, 24, 3)
    return Image.fromarray(values).convert(mode)


def sent(body: bytes) -> tuple[str, bytes]:
    """The media type and the bytes of an image that a request has."""
    image = decode_image(body, MOST_PIXELS, keep_encoded=True)
    request = Request("What is it?", Sampling(4), images=(ImageRef(body),))
    content = body_of(request, image)["messages"][0]["content"]
    assert content[1] == {"type": "text", "text": "What is it?"}
    kind, _, data = content[0]["image_url"]["url"].partition(";base64,")
    return kind, base64.b64decode(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_an_image_that_all_read_alike_is_sent_as_it_is(kind: str, mode: str) -> None:
    body = encoded(gradient(mode), kind)
    assert sent(body) == (f"data:image/{kind.lower()}", body)


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    sink = io.BytesIO()
    gradient().save(sink, "JPEG", exif=exif)
    return sink.getvalue()


def animated() -> bytes:
    sink = io.BytesIO()
    frames = [gradient(), gradient().rotate(180)]
    frames[0].save(sink, "PNG", save_all=True, append_images=frames[1:])
    return sink.getvalue()


OTHERS = {
    "BMP": encoded(gradient(), "BMP"),
    "CMYK": encoded(gradient("CMYK"), "JPEG"),
    "transparent": encoded(gradient("RGBA"), "PNG"),
    "palette": encoded(gradient("P"), "PNG"),
    "rotated": rotated(),
    "animated": animated(),
}


@pytest.mark.parametrize("name", OTHERS)
def test_of_any_other_image_the_pixels_are_sent(name: str) -> None:
    kind, body = sent(OTHERS[name])
    assert kind == "data:image/png"
    pixels = np.asarray(decode_image(OTHERS[name], MOST_PIXELS))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(body))), pixels)


def test_without_its_bytes_an_image_is_png() -> None:
    request = Request("", Sampling(4), images=(ImageRef(b""),))
    (content,) = body_of(request, gradient())["messages"][0]["content"]
    assert content["image_url"]["url"].startswith("data:image/png;base64,")


def test_the_requests_of_a_row_share_its_image() -> None:
    made, image = renderer(), gradient().resize((200, 200))
    requests = [Request(text, Sampling(4), images=(ImageRef(b""),)) for text in ("a", "b", "c")]
    rendered = [made.render(request, [image]) for request in requests]
    alone = len(pickle.dumps(rendered[0]))
    assert alone > 4000
    assert len(pickle.dumps(rendered)) < alone + 1000


def test_a_text_with_a_system_message() -> None:
    request = Request(" Hello ", Sampling(9), system="Be brief.")
    assert body_of(request) == {
        "model": "gemma",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": " Hello "},
        ],
        "max_tokens": 9,
        "temperature": 0.0,
    }


def test_raw_text_goes_to_the_other_path() -> None:
    request = Request("A photo of", Sampling(9, stop=("\n",)), system="Captions.")
    rendered = renderer(prompt_format="raw").render(request, [])
    assert rendered.prompt.path == "/completions"
    assert rendered.prompt.body["prompt"] == "Captions.\n\nA photo of"
    assert rendered.prompt.body["stop"] == ["\n"]


def test_too_many_images_fail_the_row() -> None:
    request = Request("x", Sampling(4), images=(ImageRef(b""),) * 2)
    with pytest.raises(RowError, match="2 images in a request, the limit is 1"):
        renderer().render(request, [gradient(), gradient()])


def fields(sampling: Sampling, *, is_vllm: bool = True, is_raw: bool = False) -> dict[str, Any]:
    return sampling_fields(sampling, is_vllm=is_vllm, is_raw=is_raw)


def test_how_an_answer_is_drawn() -> None:
    drawn = Sampling(5, temperature=0.7, top_p=0.9, n=3)
    expected = {"max_tokens": 5, "temperature": 0.7, "top_p": 0.9, "n": 3}
    assert fields(drawn, is_vllm=False) == expected
    # Otherwise vLLM would take that of the model's generation_config.json.
    assert fields(drawn) == {**expected, "top_k": 0}
    assert fields(Sampling(5, temperature=1.0, top_k=7), is_vllm=False)["top_k"] == 7


def test_only_vllm_is_told_of_loops() -> None:
    sampling = Sampling(5, json_schema=SCHEMA, ends_loops=True)
    form = {"name": "answer", "schema": json.loads(SCHEMA)}
    asked = {
        "max_tokens": 5,
        "temperature": 0.0,
        "response_format": {"type": "json_schema", "json_schema": form},
    }
    assert fields(sampling, is_vllm=False) == asked
    loops = {"max_pattern_size": 12, "min_count": 24}
    assert fields(sampling) == {**asked, "repetition_detection": loops}


def test_an_answer_is_asked_for_no_longer_than_the_context_is() -> None:
    """And never for a few tokens because an estimate leaves no room: vLLM counts by itself."""
    request = Request("word " * 100, Sampling(5000))
    assert body_of(request, max_model_len=1000)["max_tokens"] == 1000
    assert body_of(request, max_model_len=100)["max_tokens"] == 100
    assert body_of(replace(request, sampling=Sampling(9)))["max_tokens"] == 9
    other = partial(body_of, served_by="sglang")
    assert 900 < other(request, max_model_len=1000)["max_tokens"] < 1000
    assert other(Request("word " * 5000, Sampling(512)), max_model_len=8192)["max_tokens"] == 512
    with pytest.raises(RowError, match="the prompt has 3,125 tokens or more, the limit is 1,000"):
        other(Request("word " * 5000, Sampling(512)), max_model_len=1000)


def test_scored_words_are_asked_for_by_the_likeliest_tokens() -> None:
    scored = Sampling(1, score_tokens=("Yes", "No"))
    base = {"max_tokens": 1, "temperature": 0.0}
    assert fields(scored) == {**base, "logprobs": True, "top_logprobs": 20}
    assert fields(scored, is_raw=True) == {**base, "logprobs": 20}
    assert fields(scored, is_raw=True, is_vllm=False) == {**base, "logprobs": 5}


def test_an_estimate_is_no_less_than_what_the_text_has() -> None:
    assert estimated_tokens("") == 0
    assert estimated_tokens("2026-11-29") == 10
    assert 4 <= estimated_tokens("Good morning") <= 6
    # The bundled tokenizer has few words, so it says nothing of Gemma's; of digits it does.
    assert len(load_tokenizer(str(BUNDLED["demo"])).encode("12345")) <= estimated_tokens("12345")


def test_text_before_an_image_is_before_it() -> None:
    """As the times of a video's frames are; an image without one has none."""
    labels = ("Frame at 0.5 seconds:", "", "Frame at 2.5 seconds:")
    request = Request("What is it?", Sampling(4), images=(ImageRef(None),) * 3, labels=labels)
    content = body_of(request, *[gradient()] * 3, max_images=3)["messages"][0]["content"]
    shown = [part.get("text", "image") for part in content]
    assert shown == [labels[0], "image", "image", labels[2], "image", "What is it?"]


def test_a_follow_up_shows_the_images_again_as_they_were_sent() -> None:
    made = renderer()
    first = made.render(Request("What is it?", Sampling(4), images=(ImageRef(b""),)), [gradient()])
    again = made.render_follow_up(Request("Are you sure?", Sampling(4)), first)
    image, text = again.prompt.body["messages"][0]["content"]
    assert image == first.prompt.body["messages"][0]["content"][0]
    assert text == {"type": "text", "text": "Are you sure?"}
    alone = made.render_follow_up(Request("Are you sure?", Sampling(4)), None)
    assert alone.prompt.body["messages"][0]["content"] == "Are you sure?"


@pytest.mark.parametrize(("is_raw", "logprobs"), [(False, True), (True, 1)])
def test_penalties_and_log_probabilities_are_asked_for(is_raw: bool, logprobs: object) -> None:
    plain = sampling_fields(Sampling(4), is_vllm=False, is_raw=is_raw)
    steered = Sampling(
        4,
        presence_penalty=0.5,
        frequency_penalty=-0.5,
        repetition_penalty=1.2,
        mean_log_probability=True,
    )
    assert sampling_fields(steered, is_vllm=False, is_raw=is_raw) == {
        **plain,
        "presence_penalty": 0.5,
        "frequency_penalty": -0.5,
        "repetition_penalty": 1.2,
        "logprobs": logprobs,
    }


def test_a_blocks_size_is_that_of_its_images_as_they_are_sent() -> None:
    made = renderer(max_images=2)
    request = Request("What is it?", Sampling(4), images=(ImageRef(None),) * 2)
    found = made.render(request, [gradient()] * 2)
    assert 0 < len(json.dumps(found.prompt.body)) - found.nbytes < 1000
    assert made.render(Request("x", Sampling(4)), []).nbytes == 0
