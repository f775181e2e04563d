"""Answers of a form, with all 262,144 tokens to choose from."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import EngineConfig
from pipeline.contract.task import Generation, Request, Sampling
from pipeline.engine.renderer import GemmaRenderer
from pipeline.engine.vllm_engine import VllmEngine

REQUIRED = ("city", "people", "tags")
SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 30},
        "people": {"type": "integer", "minimum": 0, "maximum": 99_999_999},
        "tags": {"type": "array", "items": {"enum": ["capital", "port", "old"]}, "maxItems": 3},
    },
    "required": [*REQUIRED],
    "additionalProperties": False,
}
CITIES = ("Paris", "Tokyo", "Lagos", "東京", "القاهرة", "Hamburg")
COMPILE_SECONDS = 60
"""Of the first answer with a schema, on a busy machine; on a quiet one it is a few."""


@pytest.fixture(scope="module")
def config(real_model: Path) -> EngineConfig:
    return EngineConfig(
        model=str(real_model), dtype="float32", max_model_len=256, prompt_format="raw"
    )


@pytest.fixture(scope="module")
def engine(config: EngineConfig) -> Iterator[VllmEngine]:
    made = VllmEngine(config)
    yield made
    made.close()


def asked(config: EngineConfig, engine: VllmEngine) -> list[Generation]:
    """The answers about all cities."""
    renderer = GemmaRenderer(config)
    sampling = Sampling(100, json_schema=json.dumps(SCHEMA))
    requests = [
        renderer.render(Request(f"A city as JSON: {city}\nJSON:", sampling), []) for city in CITIES
    ]

    async def answers() -> list[Generation]:
        keyed = (engine.generate(request, str(at)) for at, request in enumerate(requests))
        return list(await asyncio.gather(*keyed))

    return asyncio.run(answers())


def faults(answer: Generation) -> list[str]:
    """What is wrong with an answer of this form."""
    found = [] if answer.finish_reason == "stop" else [f"ended by {answer.finish_reason}"]
    found += [f"{space!r} in it" for space in ("  ", "\n") if space in answer.text]
    try:
        filled = json.loads(answer.text)
    except ValueError:
        return [*found, "no JSON"]
    is_filled = {*filled} == {*REQUIRED} and isinstance(filled["people"], int)
    return found if is_filled else [*found, "another form"]


def test_a_base_model_fills_a_schema_and_ends(config: EngineConfig, engine: VllmEngine) -> None:
    """No endless white space, which grammars allow between all parts and small models fall for."""
    began = time.monotonic()
    found = asked(config, engine)
    assert time.monotonic() - began < COMPILE_SECONDS
    assert [faults(answer) for answer in found] == [[]] * len(CITIES), found


@pytest.mark.long
def test_white_space_that_is_free_is_seen(config: EngineConfig) -> None:
    form = {"backend": "xgrammar", "disable_any_whitespace": False}
    free = config.model_copy(update={"engine_args": {"structured_outputs_config": form}})
    engine = VllmEngine(free)
    try:
        found = asked(free, engine)
    finally:
        engine.close()
    print([answer.text for answer in found])
    assert any(map(faults, found))
