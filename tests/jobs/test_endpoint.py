"""The jobs against vLLM's own server, which has the bundled model in our class on this CPU."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from jobs import Engine, caption, translate
from jobs.demo.dataset import held_out_scenes, jpeg
from jobs.demo.evaluate import ReferenceModel, scene_image
from jobs.demo.phrases import CAPTION_PROMPT, POLICIES, moderation_prompt, translation
from jobs.demo.phrases import caption as truth
from jobs.moderation.task import moderation_task
from jobs.registry import find_model
from pipeline import EngineConfig, ImageRef, Request, RunConfig, Sampling, UserError, run
from pipeline.engine.checkpoint import open_checkpoint
from pipeline.engine.endpoint.client import address_of
from pipeline.engine.endpoint.engine import EndpointEngine
from pipeline.engine.endpoint.renderer import EndpointRenderer
from pipeline.engine.endpoint.served import open_served
from pipeline.images.decode import decode_image
from tests.openai_server import free_port

NAME = "drawings"
SCENES = [*itertools.islice(held_out_scenes(21), 24)]
TRUTHS = [truth(scene) for scene in SCENES]
START_S = 400.0
ARGUMENTS = (
    *("--served-model-name", NAME, "--dtype", "float32", "--max-model-len", "1024"),
    *("--max-num-seqs", "16", "--enforce-eager", "--limit-mm-per-prompt", '{"image": 1}'),
    # As in an engine of a run's own; see docs/server.md.
    *("--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}'),
)

pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("ray_cluster")]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of vLLM's server."""
    port, log = free_port(), tmp_path_factory.mktemp("server") / "log"
    environment = {**os.environ, "VLLM_NO_USAGE_STATS": "1"}
    environment.pop("VLLM_ENABLE_V1_MULTIPROCESSING", None)
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    where = ["--host", "127.0.0.1", "--port", str(port), "--model", find_model("demo").path]
    with log.open("wb") as file:
        server = subprocess.Popen(
            [*command, *where, *ARGUMENTS], env=environment, stdout=file, stderr=file
        )
    try:
        wait_until_ready(server, port, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()  # it ends its engine
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(60)
        server.kill()


def wait_until_ready(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    give_up = time.monotonic() + START_S
    while time.monotonic() < give_up:
        assert server.poll() is None, log.read_text()[-3000:]
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return
        time.sleep(0.5)
    raise AssertionError(log.read_text()[-3000:])


def test_captions_are_those_of_an_engine_in_the_process(url: str) -> None:
    given = [*map(jpeg, SCENES), b"no image"]
    found = caption(given, endpoint=url, model=NAME, prompt=CAPTION_PROMPT)
    assert [row["outcome"] for row in found] == ["ok"] * len(SCENES) + ["decode_error"]
    assert [row["caption"] for row in found] == [*TRUTHS, None]
    assert all(row["prompt_tokens"] > 16 and row["output_tokens"] > 5 for row in found[:-1])


@pytest.mark.long
def test_translations_with_an_engine_that_stays(url: str) -> None:
    with Engine(NAME, endpoint=url) as engine:
        found = translate(TRUTHS[:6], engine=engine, to=["de"], source="en")
    assert [row["text_de"] for row in found] == [translation(scene, "de") for scene in SCENES[:6]]


def answers(url: str, sampling: Sampling, prompt: str = CAPTION_PROMPT) -> list[Any]:
    """The answers about some drawings, or their failures, without a run."""
    config = open_served(address_of(url), NAME, None).resolve(
        EngineConfig(model=NAME, endpoint=url)
    )
    renderer = EndpointRenderer(config)
    request = Request(prompt, sampling, images=(ImageRef(b""),))
    images = [decode_image(jpeg(scene), 10**6, keep_encoded=True) for scene in SCENES[:4]]
    rendered = [renderer.render(request, [image]) for image in images]

    async def asked() -> list[Any]:
        engine = EndpointEngine(config, address=address_of(url))
        keyed = (engine.generate(each, str(number)) for number, each in enumerate(rendered))
        try:
            return await asyncio.gather(*keyed, return_exceptions=True)
        finally:
            engine.close()
            await asyncio.sleep(0)

    return asyncio.run(asked())


def test_answers_keep_to_a_schema(url: str) -> None:
    kinds = {"type": "array", "items": {"enum": ["cross", "star"]}, "maxItems": 2}
    properties = {"count": {"type": "integer", "minimum": 0, "maximum": 9}, "kinds": kinds}
    schema = {"type": "object", "properties": properties, "required": ["count", "kinds"]}
    schema["additionalProperties"] = False
    found = answers(url, Sampling(60, json_schema=json.dumps(schema)))
    good = [json.loads(each.text) for each in found if each.finish_reason == "stop"]
    assert good
    assert all(0 <= each["count"] <= 9 and {*each["kinds"]} <= {"cross", "star"} for each in good)


def test_answers_are_drawn_the_same_way_again(url: str) -> None:
    drawn = answers(url, ways := Sampling(12, temperature=2.0, n=3))
    assert [(each.text, *each.others) for each in drawn] == [
        (each.text, *each.others) for each in answers(url, ways)
    ]
    assert any(len({each.text, *each.others}) > 1 for each in drawn)


def test_an_answer_ends_before_its_stop(url: str) -> None:
    found = answers(url, Sampling(64, stop=(" on",)))
    assert [each.text for each in found] == [text.partition(" on")[0] for text in TRUTHS[:4]]


def test_probabilities_are_those_of_transformers(url: str, tmp_path: Path) -> None:
    model, scenes = find_model("demo"), SCENES[:9]
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"image": [*map(jpeg, scenes)]}), tmp_path / "in/a.parquet")
    task = moderation_task(open_checkpoint(model.path).profile, model, image_column="image")
    engine = EngineConfig(model=NAME, endpoint=url)
    result = run(
        RunConfig(input=str(tmp_path / "in"), output=str(tmp_path / "out"), engine=engine), task
    )
    assert result.outcomes == {"ok": len(scenes)}
    table = ds.dataset(tmp_path / "out").to_table()
    judge, images = ReferenceModel.load(Path(model.path)), [*map(scene_image, scenes)]
    for policy in POLICIES:
        due = judge.yes_probabilities([moderation_prompt(policy)] * len(images), images)
        assert table[f"p_{policy.name}"].to_pylist() == pytest.approx(due, abs=1e-3)


def test_what_the_server_does_not_have_is_told_in_a_line(url: str) -> None:
    with pytest.raises(UserError, match="no such model; did you mean 'drawings'") as told:
        caption(["/no/such/image.png"], endpoint=url, model="drawing")
    assert "\n" not in str(told.value)
    for found in answers(url, Sampling(8), "a red circle " * 900):
        assert found.outcome == "too_long"
        assert "maximum context length is 1024 tokens" in str(found)
