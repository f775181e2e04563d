"""Three policies of an image cost less than 1.6 times one, and the shared numbers are right.

Tokens and images that the engine really computes are counted, with 256 soft tokens and blocks of
32, through the stage that sends a row's requests together.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from jobs.moderation.policies import TEXT_POLICIES
from jobs.moderation.task import ModerationTask, moderation_task, probability
from jobs.registry import find_model
from pipeline import EngineConfig
from pipeline.contract.errors import Fault
from pipeline.contract.record import row_key
from pipeline.engine.checkpoint import open_checkpoint, resolve_engine
from pipeline.engine.interface import Rendered
from pipeline.engine.renderer import GemmaRenderer
from pipeline.engine.vllm_engine import VllmEngine
from pipeline.stages.blocks import Item, pack, seal, unpack, unseal
from pipeline.stages.generate import Generate
from pipeline.stages.rendered_row import RenderedRow
from tests.gemma3_model.test_parity import sample_image
from tests.jobs.moderation import counting, shield

TOLERANCE = 1e-3
"""Largest error of a probability that is promised."""
SIZES = {"soft_tokens": 256, "side": 128, "patch": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shield.checkpoint(tmp_path_factory.mktemp("shieldgemma2"), **SIZES)


def config(folder: Path, block_size: int) -> EngineConfig:
    arguments = {"block_size": block_size, "scheduler_cls": counting.SCHEDULER}
    wanted = EngineConfig(model=str(folder), dtype="float32", engine_args=arguments)
    return resolve_engine(wanted, open_checkpoint(str(folder)))


@pytest.fixture
def counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "counts.jsonl"
    monkeypatch.setenv(counting.COUNTS, str(file))
    return file


class Engine:
    """The stage that holds an engine, asked for whole rows."""

    def __init__(self, config: EngineConfig) -> None:
        self.renderer = GemmaRenderer(config)
        self.stage = Generate(config, VllmEngine)
        assert not isinstance(self.stage._engine, Fault), self.stage._engine.message
        self.loop = asyncio.Runner()

    def render(self, task: ModerationTask, content: object) -> tuple[Rendered, ...]:
        prepared = task.prepare({"image": content, "text": content})
        images = [content] if isinstance(content, Image.Image) else []
        return tuple(self.renderer.render(request, images) for request in prepared.requests)

    def answer(self, unit: str, rows: list[tuple[Rendered, ...]]) -> list[list[float]]:
        block = pack([Item(unit, i, payload=RenderedRow(row, None)) for i, row in enumerate(rows)])
        answered = self.loop.run(self._answer(block))
        return [
            [probability(*generation.log_probabilities) for generation in item.payload.generations]
            for item in answered
        ]

    async def _answer(self, block: Any) -> list[Item]:
        sealed = [done async for done in self.stage(seal(block))]
        return [item for done in sealed for block in unseal(done) for item in unpack(block)]

    def close(self) -> None:
        assert not isinstance(self.stage._engine, Fault)
        self.stage._engine.close()
        self.loop.close()


@pytest.fixture
def engine(
    folder: Path,
    counts: Path,  # noqa: ARG001  it says where to count, before the engine starts
    request: pytest.FixtureRequest,
) -> Iterator[Engine]:
    engine = Engine(config(folder, request.param))
    yield engine
    engine.close()


def task_of(folder: Path, **options: Any) -> ModerationTask:
    return moderation_task(open_checkpoint(str(folder)).profile, find_model(str(folder)), **options)


@pytest.mark.parametrize("engine", [32], indirect=True)
def test_three_policies_cost_less_than_1_6_times_one(
    folder: Path, counts: Path, engine: Engine
) -> None:
    task = task_of(folder, image_column="image")
    one = engine.render(task, sample_image(1))[:1]
    engine.answer("one", [one])
    alone = counting.cost(counts, row_key("one", 0))
    assert (alone.tokens, alone.images) == (one[0].prompt_tokens, 1)

    images = [sample_image(seed) for seed in (2, 3, 4)]
    found = engine.answer("three", [engine.render(task, image) for image in images])
    theirs = shield.Transformers(folder)
    for row, image in enumerate(images):
        cost = counting.cost(counts, row_key("three", row))
        assert cost.images == 1
        assert cost.tokens < 1.6 * alone.tokens, f"{cost.tokens} for {alone.tokens}"
        due = [theirs.probability(image, policy.name) for policy in task.policies]
        assert found[row] == pytest.approx(due, abs=TOLERANCE)


@pytest.mark.parametrize("engine", [256], indirect=True)
def test_numbers_are_right_where_what_is_shared_ends_inside_the_image(
    folder: Path, counts: Path, engine: Engine
) -> None:
    task = task_of(folder, image_column="image")
    first, *others = engine.render(task, sample_image(5))
    engine.answer("first", [(first,)])
    (found,) = engine.answer("others", [tuple(others)])
    begins = counting.cost(counts, row_key("others", 0)).begins
    soft_token = json.loads((folder / "config.json").read_text())["image_token_index"]
    ids = first.prompt.token_ids
    soft = [place for place, token in enumerate(ids) if token == soft_token]
    assert len(soft) == 256
    assert all(soft[0] < begin <= soft[-1] for begin in begins), begins
    theirs = shield.Transformers(folder)
    due = [theirs.probability(sample_image(5), policy.name) for policy in task.policies[1:]]
    assert found == pytest.approx(due, abs=TOLERANCE)


def test_a_text_longer_than_the_window_is_shared_too(counts: Path) -> None:
    # The bundled model's window is 48 tokens.
    demo = find_model("demo")
    task = task_of(Path(demo.path), text_column="text", policies=TEXT_POLICIES)
    engine = Engine(config(Path(demo.path), 32))
    row = engine.render(task, "a red circle left of a blue star on a white background. " * 30)
    engine.answer("three", [row])
    engine.close()
    lengths = [request.prompt_tokens for request in row]
    assert min(lengths) > 600
    cost = counting.cost(counts, row_key("three", 0))
    assert cost.tokens < 1.6 * lengths[0], f"{cost.tokens} for {lengths}"
