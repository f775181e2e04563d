"""Questions of one image cost one encoding of it, also those that are asked later.

Tokens and images that the engine really computes are counted, with the bundled model.
"""

from __future__ import annotations

import asyncio
from itertools import islice
from pathlib import Path

import pytest

from jobs.captioning.questions import QuestionsTask
from jobs.demo.dataset import held_out_scenes
from jobs.demo.evaluate import scene_image
from jobs.demo.phrases import CAPTION_PROMPT
from jobs.registry import JOBS, find_model
from jobs.sdk.assembly import configure
from pipeline import EngineConfig
from pipeline.contract.errors import Fault
from pipeline.contract.record import row_key
from pipeline.engine.checkpoint import open_checkpoint, resolve_engine
from pipeline.engine.renderer import GemmaRenderer
from pipeline.engine.vllm_engine import VllmEngine
from pipeline.stages.blocks import Item, pack, seal, unpack, unseal
from pipeline.stages.follow_ups import follow_ups
from pipeline.stages.generate import Generate
from pipeline.stages.rendered_row import RenderedRow
from tests.jobs.moderation import counting

PROMPTS = [
    {"name": "caption", "prompt": CAPTION_PROMPT},
    {"name": "shapes", "prompt": f"{CAPTION_PROMPT} Name the shapes."},
    {"name": "doubt", "prompt": "Is this a good caption? {caption}"},
    {"name": "short", "prompt": "Say it shorter: {caption}", "image": False},
]
IMAGES = 3


def test_the_image_is_encoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = tmp_path / "counts.jsonl"
    monkeypatch.setenv(counting.COUNTS, str(counts))
    folder = find_model("demo").path
    arguments = {"block_size": 16, "scheduler_cls": counting.SCHEDULER}
    wanted = EngineConfig(model=folder, dtype="float32", engine_args=arguments)
    config = resolve_engine(wanted, open_checkpoint(folder))
    task = configure(
        JOBS["caption"], {"model": "demo", "prompts": PROMPTS, "max_tokens": 20}
    ).task()
    assert isinstance(task, QuestionsTask)
    renderer = GemmaRenderer(config)
    rows = []
    for number, scene in enumerate(islice(held_out_scenes(5), IMAGES)):
        prepared = task.prepare({"image": b""})
        image = scene_image(scene)
        requests = tuple(renderer.render(request, [image]) for request in prepared.requests)
        rows.append(Item("unit", number, payload=RenderedRow(requests, prepared.state)))
    stage = Generate(config, VllmEngine, follow_ups=follow_ups(task, config, GemmaRenderer))
    assert not isinstance(stage._engine, Fault), stage._engine.message

    async def answers() -> list[Item]:
        blocks = [block async for out in stage(seal(pack(rows))) for block in unseal(out)]
        return [item for block in blocks for item in unpack(block)]

    answered = asyncio.run(answers())
    stage._engine.close()
    for number, item in enumerate(answered):
        found = item.payload
        assert found.state.asked == ("caption", "shapes", "doubt", "short")
        result = task.result(found.state, found.generations)
        assert result.columns["caption"]
        cost = counting.cost(counts, row_key("unit", number))
        assert cost.images == 1
        assert len(cost.begins) == 4, "each question is one request"
