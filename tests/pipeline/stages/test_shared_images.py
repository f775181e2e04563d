"""A row's requests share their image: it is made ready once, and is once in what travels."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from ray import cloudpickle

from gemma3_model.preprocessing import ImagePreprocessing
from pipeline.contract.config import EngineConfig
from pipeline.contract.errors import RowError
from pipeline.contract.task import ImageRef, Prepared, Request, Row, Sampling
from pipeline.engine.renderer import GemmaRenderer
from pipeline.images import ImageLimits
from pipeline.stages import render
from pipeline.stages.blocks import Item, pack, seal, unpack, unseal
from pipeline.stages.render import Render
from pipeline.stages.rendered_row import RenderedRow
from pipeline.storage.location import locate
from tests.gemma3_model.test_parity import sample_image
from tests.pipeline.fakes import ColourTask, FakeRenderer

CONFIG = EngineConfig(
    model=str(files("jobs.demo") / "checkpoint"), dtype="float32", max_model_len=1024, max_images=2
)
QUESTIONS = ("Which?", "How many are there?", "Where?")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Image.Image]:
    """The images that were resized."""
    seen: list[Image.Image] = []
    right = ImagePreprocessing.pixels

    def counted(self: Any, image: Image.Image, *arguments: Any) -> Any:
        seen.append(image)
        return right(self, image, *arguments)

    monkeypatch.setattr(ImagePreprocessing, "pixels", counted)
    return seen


def row(renderer: GemmaRenderer, *images: Image.Image) -> RenderedRow:
    requests = [Request(question, Sampling(1)) for question in QUESTIONS]
    return RenderedRow(tuple(renderer.render(request, [*images]) for request in requests), None)


def test_a_rows_image_is_made_ready_once(made: list[Image.Image]) -> None:
    renderer, first, second = GemmaRenderer(CONFIG), sample_image(1), sample_image(2)
    rows = [row(renderer, first), row(renderer, second), row(renderer, second, first)]
    assert len(made) == 4
    alone = GemmaRenderer(CONFIG)
    for rendered, images in zip(rows, [[first], [second], [second, first]], strict=True):
        for question, shared in zip(QUESTIONS, rendered.requests, strict=True):
            # Another renderer, and another image between, so that nothing is remembered.
            alone.render(Request("x", Sampling(1)), [sample_image(9)])
            single = alone.render(Request(question, Sampling(1)), images)
            assert shared.prompt.token_ids == single.prompt.token_ids
            assert shared.prompt.places == single.prompt.places
            for ours, theirs in zip(shared.prompt.images, single.prompt.images, strict=True):
                assert ours.fingerprint == theirs.fingerprint
                assert (ours.pixels == theirs.pixels).all()
    one, other = (row.requests[0].prompt.images[0].fingerprint for row in rows[:2])
    assert one != other


def test_it_is_once_in_what_travels() -> None:
    whole = row(GemmaRenderer(CONFIG), sample_image(1))
    of_one, of_three = (
        len(cloudpickle.dumps(RenderedRow(requests, None)))
        for requests in (whole.requests[:1], whole.requests)
    )
    assert of_three < 1.2 * of_one


class ThriceTask(ColourTask):
    def prepare(self, row: Row) -> Prepared:
        image = ImageRef(row["image"])
        return Prepared(
            tuple(Request(q, Sampling(1), images=(image,), may_fail=True) for q in QUESTIONS)
        )


def test_an_image_that_is_not_to_be_had_is_asked_for_once(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, asked = render.load_image, []

    def load(value: object, *arguments: Any) -> Image.Image:
        asked.append(value)
        return right(value, *arguments)

    monkeypatch.setattr(render, "load_image", load)
    stage = Render(
        ThriceTask(), CONFIG, FakeRenderer, locate(str(tmp_path)), ImageLimits(10**6, 10**6)
    )
    (sealed,) = stage(seal(pack([Item("u", 0, payload={"image": "absent.png"})])))
    (block,) = unseal(sealed)
    (item,) = unpack(block)
    assert asked == ["absent.png"]
    assert [str(error) for error in item.payload.requests] == [
        "fetch: there is no file absent.png"
    ] * 3


class Choosy(FakeRenderer):
    def render(self, request: Request, images: Any) -> Any:
        if request.prompt == QUESTIONS[1]:
            raise ValueError("unknown language")
        return super().render(request, images)


def test_a_request_that_cannot_be_rendered_leaves_the_others(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    limits = ImageLimits(10**6, 10**6)
    stage = Render(ThriceTask(), CONFIG, Choosy, locate(str(tmp_path)), limits)
    (sealed,) = stage(seal(pack([Item("u", 0, payload={"image": "a.png"})])))
    (block,) = unseal(sealed)
    (item,) = unpack(block)
    first, second, third = item.payload.requests
    assert str(second) == "render: ValueError: unknown language"
    assert not isinstance(first, RowError)
    assert not isinstance(third, RowError)
