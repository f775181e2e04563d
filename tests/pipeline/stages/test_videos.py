"""Videos in the render stage: their frames are the request's images, each after its time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from pipeline.contract.config import EngineConfig
from pipeline.contract.record import Outcome
from pipeline.contract.task import (
    ColumnKind,
    Generation,
    ImageRef,
    Prepared,
    Request,
    Result,
    Row,
    Sampling,
    VideoRef,
)
from pipeline.images import ImageLimits
from pipeline.stages import render
from pipeline.stages.blocks import Item, pack, seal, unpack, unseal
from pipeline.stages.render import Render
from pipeline.storage.location import locate
from tests.pipeline.fakes import FakeRenderer
from tests.pipeline.sample_images import jpeg
from tests.pipeline.sample_videos import number_of, numbered_video, sound_alone

CONFIG = EngineConfig(model="demo")
LIMITS = ImageLimits(10**6, 10**6)


class Listing(FakeRenderer):
    """Says which frames it was given, by their colours, and the texts before them."""

    def render(self, request: Request, images: Sequence[Any]) -> Any:
        numbers = [number_of(image) for image in images]
        rendered = super().render(request, images)
        return type(rendered)((numbers, request.labels), 1, request.sampling)


class FilmTask:
    """Two questions about each video."""

    name = "film"
    columns: ClassVar[Mapping[str, ColumnKind]] = {"video": ColumnKind.VIDEO}
    result_schema = pa.schema([("text", pa.string())])
    settings: ClassVar[Mapping[str, object]] = {}

    def images(self, row: Row) -> tuple[ImageRef | VideoRef, ...]:
        return (VideoRef(row["video"], 3),)

    def prepare(self, row: Row) -> Prepared:
        images = self.images(row)
        return Prepared(
            tuple(Request(question, Sampling(4), images=images) for question in ("What?", "Who?"))
        )

    def result(self, _: object, generations: Sequence[Generation]) -> Result:
        return Result({"text": generations[0].text})


class BesideImage(FilmTask):
    """An image, then a video."""

    def images(self, row: Row) -> tuple[ImageRef | VideoRef, ...]:
        return (ImageRef(jpeg((30, 30, 30))), *super().images(row))


class LongAndShort(FilmTask):
    """The same video twice, with other numbers of frames."""

    def prepare(self, row: Row) -> Prepared:
        return Prepared(
            tuple(
                Request("What?", Sampling(4), images=(VideoRef(row["video"], most),))
                for most in (1, 3, 1)
            )
        )


def rendered(task: Any, values: Sequence[object], folder: Path) -> list[Item]:
    stage = Render(task, CONFIG, Listing, locate(str(folder)), LIMITS)
    items = [Item("u", place, payload={"video": value}) for place, value in enumerate(values)]
    (sealed,) = stage(seal(pack(items)))
    (block,) = unseal(sealed)
    return [*unpack(block)]


LABELS = ("Frame at 0.5 seconds:", "Frame at 1.5 seconds:", "Frame at 2.5 seconds:")


def test_a_videos_frames_are_the_images_of_each_request(tmp_path: Path, monkeypatch: Any) -> None:
    right, opened = render.load_video, []

    def load(value: object, *arguments: Any, **named: Any) -> Any:
        opened.append(value)
        return right(value, *arguments, **named)

    monkeypatch.setattr(render, "load_video", load)
    (tmp_path / "a.mp4").write_bytes(numbered_video(30))
    (item,) = rendered(FilmTask(), ["a.mp4"], tmp_path)
    assert [one.prompt for one in item.payload.requests] == [([5, 15, 25], LABELS)] * 2
    assert opened == ["a.mp4"]  # once for both questions


def test_requests_may_ask_for_other_numbers_of_frames(tmp_path: Path) -> None:
    (item,) = rendered(LongAndShort(), [numbered_video(30)], tmp_path)
    numbers = [one.prompt[0] for one in item.payload.requests]
    assert numbers == [[15], [5, 15, 25], [15]]


def test_an_image_beside_a_video_has_no_text_before_it(tmp_path: Path) -> None:
    (item,) = rendered(BesideImage(), [numbered_video(30)], tmp_path)
    assert item.payload.requests[0].prompt == ([0, 5, 15, 25], ("", *LABELS))


def test_a_bad_video_fails_its_own_row(tmp_path: Path) -> None:
    """Of any kind; the renderer goes on with the next one."""
    good = numbered_video(30)
    bad = [b"", b"no video", good[: len(good) // 2], sound_alone(), None, "absent.mp4"]
    items = rendered(FilmTask(), [good, *bad, good], tmp_path)
    assert [item.outcome for item in items] == [
        None, *[Outcome.DECODE_ERROR] * 4, *[Outcome.MISSING_INPUT] * 2, None,
    ]  # fmt: skip
    assert all(item.error for item in items[1:-1])
    assert items[4].error == "decode: it has only sound, no video"
