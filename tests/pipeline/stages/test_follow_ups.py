"""What a row is asked after its first answers: rendered where the engine is, with its images."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from pipeline.contract.config import EngineConfig
from pipeline.contract.errors import RowError
from pipeline.contract.record import Outcome
from pipeline.contract.task import FollowsUp, Generation, Prepared, Request, Sampling
from pipeline.engine.interface import Rendered
from pipeline.stages.blocks import Item, pack, seal, unpack, unseal
from pipeline.stages.feed import Feed
from pipeline.stages.follow_ups import follow_ups
from pipeline.stages.generate import Generate
from pipeline.stages.rendered_row import RenderedRow
from tests.pipeline.fakes import POISON, ColourTask, FakeEngine, FakeRenderer
from tests.pipeline.stages.test_feed import Engine, Whole, run, settled

CONFIG = EngineConfig(model="m")


@dataclass(frozen=True)
class Asking(ColourTask):
    """Asks what the last answer was, until there are `rounds` answers.

    The state counts the calls.
    """

    rounds: int = 3
    shows_image: bool = True
    may_fail: bool = False

    def follow_up(self, state: object, generations: Sequence[Generation]) -> Prepared | None:
        assert isinstance(state, int)
        if len(generations) >= self.rounds:
            return None
        if generations[-1].text == "4 4 4":
            raise RowError(Outcome.REFUSED, "parse", "enough")
        if generations[-1].text == "5 5 5":
            raise ZeroDivisionError
        prompt = f"after {generations[-1].text}"
        request = Request(
            prompt,
            Sampling(4),
            may_fail=self.may_fail,
            images_of=0 if self.shows_image else None,
        )
        return Prepared((request,), state + 1)


class FollowingRenderer(FakeRenderer):
    def render_follow_up(self, request: Request, earlier: Rendered | None) -> Rendered:
        colours = earlier.prompt[1] if earlier else []
        return Rendered((request.prompt, colours), 9, request.sampling, may_fail=request.may_fail)


class Recording(FakeEngine):
    """Also keeps what it was asked."""

    asked: list[tuple[str, str, Any]] = []  # noqa: RUF012  reset by the test

    async def generate(self, rendered: Rendered, key: str) -> Generation:
        self.asked.append((key, *rendered.prompt))
        return await super().generate(rendered, key)


def row(position: int, *colours: tuple[int, int, int]) -> Item:
    requests = tuple(Rendered(("first", [colour]), 9, Sampling(4)) for colour in colours)
    return Item("u", position, payload=RenderedRow(requests, 0))


def answered(task: Asking, items: list[Item], renderer: Any = FollowingRenderer) -> list[Item]:
    stage = Generate(CONFIG, Recording, follow_ups=follow_ups(task, CONFIG, renderer))

    async def all_of() -> list[Item]:
        blocks = [block async for out in stage(seal(pack(items))) for block in unseal(out)]
        return [item for block in blocks for item in unpack(block)]

    Recording.asked = []
    return asyncio.run(all_of())


def test_a_row_is_asked_until_its_task_has_no_more_questions() -> None:
    assert isinstance(Asking(), FollowsUp)
    assert not isinstance(ColourTask(), FollowsUp)
    two, one = answered(Asking(rounds=4), [row(0, (1, 2, 3), (6, 6, 6)), row(1, (9, 9, 9))])
    assert [answer.text for answer in two.payload.generations] == ["1 2 3", "6 6 6", *["1 2 3"] * 2]
    assert two.payload.state == 2
    assert len(one.payload.generations) == 4
    assert one.payload.engine is not None
    own = [(key, prompt) for key, prompt, _ in Recording.asked if key.startswith("u-00000000")]
    assert own == [
        ("u-00000000-0", "first"),
        ("u-00000000-1", "first"),
        ("u-00000000-2", "after 6 6 6"),
        ("u-00000000-3", "after 1 2 3"),
    ]


def test_a_follow_up_may_be_asked_without_the_images() -> None:
    (item,) = answered(Asking(rounds=2, shows_image=False), [row(0, (1, 2, 3))])
    assert [answer.text for answer in item.payload.generations] == ["1 2 3", "after 1 2 3"]


def test_a_task_that_fails_on_a_row_costs_that_row_alone() -> None:
    told, broken, good = answered(
        Asking(), [row(0, (4, 4, 4)), row(1, (5, 5, 5)), row(2, (6, 6, 6))]
    )
    assert (told.outcome, told.error) == (Outcome.REFUSED, "parse: enough")
    assert (broken.outcome, broken.error) == (Outcome.DECODE_ERROR, "render: ZeroDivisionError")
    assert len(good.payload.generations) == 3


@pytest.mark.parametrize("may_fail", [True, False])
def test_a_follow_up_that_cannot_be_rendered_fails_alone_if_it_may(may_fail: bool) -> None:
    class Refusing(FollowingRenderer):
        def render_follow_up(self, request: Request, earlier: Rendered | None) -> Rendered:
            raise ValueError("no such language")

    (item,) = answered(Asking(rounds=2, may_fail=may_fail), [row(0, (1, 2, 3))], Refusing)
    if may_fail:
        first, second = item.payload.generations
        assert first.text == "1 2 3"
        assert str(second.failure) == "render: ValueError: no such language"
    else:
        assert (item.outcome, item.error) == (
            Outcome.DECODE_ERROR,
            "render: ValueError: no such language",
        )


def test_an_earlier_request_that_was_not_rendered_has_no_images_to_show() -> None:
    lost = RowError(Outcome.TOO_LONG, "render", "too many images")
    item = Item("u", 0, payload=RenderedRow((lost,), 0))
    (item,) = answered(Asking(rounds=2, may_fail=True), [item])
    assert [str(a.failure) for a in item.payload.generations] == ["render: too many images"] * 2
    assert item.payload.engine is None


def test_a_follow_up_that_the_engine_refuses_fails_its_row() -> None:
    class Poisoning(FollowingRenderer):
        def render_follow_up(self, request: Request, earlier: Rendered | None) -> Rendered:
            return Rendered((request.prompt, [POISON]), 9, request.sampling)

    (item,) = answered(Asking(), [row(0, (1, 2, 3))], Poisoning)
    assert item.outcome is Outcome.ENGINE_ERROR


def test_a_backend_that_renders_none_ends_the_run_once_one_is_asked() -> None:
    (item,) = answered(Asking(rounds=2), [row(0, (1, 2, 3))], None)
    assert item.fault is not None
    assert item.fault.is_users
    assert "no follow-ups" in item.fault.message
    (item,) = answered(Asking(rounds=1), [row(0, (1, 2, 3))], None)
    assert item.fault is None


def test_a_row_that_asks_more_goes_before_those_that_wait_and_counts_with_what_it_asks() -> None:
    request = Rendered(("prompt", []), 10, Sampling(4))

    class Twice(Engine):
        async def answer(self, item: Item) -> Item:
            done = await super().answer(item)
            more = RenderedRow((request, request), None, asked=(request,))
            return done if item.payload.asked else item.carrying(more)

    async def test(_: Engine) -> None:
        engine = Twice()
        feed = Feed(engine.answer, Whole(2))
        rows = [Item("u", n, payload=RenderedRow((request,), None)) for n in range(4)]
        block = asyncio.create_task(feed.answers(pack(rows)))
        await settled()
        assert engine.seen == [0, 1]
        await engine.end(0)
        assert engine.seen == [0, 1, 0]  # three requests now, so no other row enters
        await engine.end(1)
        assert engine.seen == [0, 1, 0, 1]
        feed.close()  # what has entered is asked to its end
        await engine.end(0)
        await engine.end(1)
        assert [item.payload for item in await block] == ["answered"] * 2

    run(test)


def test_a_follow_up_about_a_video_has_its_times_again() -> None:
    shown = Rendered(("what", [(1, 2, 3)]), 9, Sampling(4), labels=("Frame at 0 seconds:",))
    seen: list[Request] = []

    class Seeing(FollowingRenderer):
        def render_follow_up(self, request: Request, earlier: Rendered | None) -> Rendered:
            seen.append(request)
            return super().render_follow_up(request, earlier)

    asking = follow_ups(Asking(), CONFIG, Seeing)
    assert asking is not None
    item = Item("u", 0, payload=RenderedRow((shown,), 0))
    assert asking.after(item, [Generation("1 2 3", 9, 3, "stop")]) is not None
    assert [request.labels for request in seen] == [("Frame at 0 seconds:",)]
