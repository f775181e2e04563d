"""An engine that is asked to finish takes no more blocks, and tells when it has none left."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from pipeline.stages import drain as module
from pipeline.stages.drain import Intake


@dataclass
class AskingDrain:
    """A drain without Ray's store."""

    asked: bool = False
    reports: list[int | None] = field(default_factory=list)

    def is_asked(self) -> bool:
        return self.asked

    def report(self, _: str, rows: int | None) -> None:
        self.reports.append(rows)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(module, "actor_id", lambda: "actor")


def test_what_is_in_flight_is_finished_and_nothing_else_is_taken() -> None:
    drain: Any = AskingDrain()
    closed: list[bool] = []
    intake = Intake(drain, lambda: closed.append(True))
    intake.open()

    async def run() -> None:
        assert await intake.admits()
        with intake.working():
            drain.asked = True
            while await intake.admits():
                await asyncio.sleep(0)
            await asyncio.sleep(0.1)
            assert drain.reports == [None], "it is not idle yet"
            assert closed == [True]
            intake.give_back(32)
        while drain.reports == [None]:
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(run(), 30))
    assert drain.reports == [None, 32]


def test_without_a_drain_every_block_is_taken() -> None:
    intake = Intake(None)
    intake.open()
    assert asyncio.run(intake.admits())
