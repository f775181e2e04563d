"""How many requests a server has at once is found out."""

from __future__ import annotations

import asyncio
import time

import pytest

from pipeline.engine.endpoint.concurrency import DECREASE, HOLD, LEAST_ROUND, Concurrency


async def load(limiter: Concurrency, requests: int, slots: int, seconds: float) -> int:
    """Answer requests with a server that works on so many at once; gives the most it had."""
    room, most = asyncio.Semaphore(slots), 0

    async def ask() -> None:
        nonlocal most
        async with limiter.turn() as sent:
            most = max(most, limiter.running)
            async with room:
                await asyncio.sleep(seconds)
            limiter.answered(sent)

    await asyncio.gather(*(ask() for _ in range(requests)))
    assert (limiter.running, limiter.waiting) == (0, 0)
    return most


@pytest.mark.parametrize("slots", [12, 60])
def test_it_grows_to_what_the_server_can_do_and_not_far_beyond(slots: int) -> None:
    limiter = Concurrency(1024)
    most = asyncio.run(load(limiter, 40 * slots, slots, 0.05))
    assert slots / 2 <= limiter.limit <= 2.7 * slots
    assert most <= 6 * slots, "it is found out by trying"


def test_it_never_exceeds_the_most() -> None:
    assert asyncio.run(load(Concurrency(20), 400, 1000, 0.005)) == 20
    assert asyncio.run(load(Concurrency(3), 40, 1000, 0.005)) == 3


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def one_round(limiter: Concurrency, clock: Clock, rate: float, *, is_full: bool = True) -> int:
    """A round at so many answers a second; gives the limit after it."""
    sent, answers = clock.now, max(limiter.limit, LEAST_ROUND)
    limiter._was_full = is_full
    clock.now += limiter.limit / rate
    for _ in range(answers):
        limiter.answered(sent)
    return limiter.limit


def test_it_doubles_while_that_pays_then_stays_then_tries_again(clock: Clock) -> None:
    limiter = Concurrency(1024)
    assert [one_round(limiter, clock, rate) for rate in (100, 200, 390)] == [32, 64, 128]
    assert one_round(limiter, clock, 400) == 64, "twice the requests for nothing"
    held = [one_round(limiter, clock, 390) for _ in range(HOLD)]
    assert held == [64] * HOLD
    assert one_round(limiter, clock, 390) == 80
    assert one_round(limiter, clock, 480) == 100


def test_a_server_that_becomes_slow_gets_fewer(clock: Clock) -> None:
    limiter = Concurrency(64)
    for rate in (100, 200, 400, 400):
        one_round(limiter, clock, rate)
    assert limiter.limit == 64
    assert one_round(limiter, clock, 150) == 64 * DECREASE


def test_rounds_without_enough_requests_say_nothing(clock: Clock) -> None:
    limiter = Concurrency(1024)
    assert one_round(limiter, clock, 100) == 32
    assert one_round(limiter, clock, 20, is_full=False) == 32
    assert one_round(limiter, clock, 200) == 64


def test_of_requests_that_failed_together_one_halves_it(clock: Clock) -> None:
    limiter = Concurrency(1024)
    for rate in (100, 200):
        one_round(limiter, clock, rate)
    seen = limiter.cuts
    for _ in range(40):
        limiter.cut(seen)
    assert limiter.limit == 32
    for limit in (16, 8, 4, 2, 1, 1):
        limiter.answered(clock.now)
        limiter.cut(limiter.cuts)
        assert limiter.limit == limit


def test_a_server_that_answers_nothing_says_nothing_of_how_many_it_takes(clock: Clock) -> None:
    """One that starts anew says 503 to every wave of tries, and then takes as many as before."""
    limiter = Concurrency(1024)
    for rate in (100, 200):
        one_round(limiter, clock, rate)
    sent = clock.now
    for _ in range(20):
        clock.now += 1
        limiter.cut(limiter.cuts)
    assert limiter.limit == 32
    limiter.answered(sent)  # one that it had before
    limiter.cut(limiter.cuts)
    assert limiter.limit == 16


def test_one_who_gives_up_waiting_passes_the_turn_on() -> None:
    async def scenario() -> None:
        limiter = Concurrency(1)
        order = []

        async def ask(name: str) -> None:
            async with limiter.turn():
                order.append(name)
                await asyncio.sleep(0.01)

        first, second, third = (asyncio.create_task(ask(name)) for name in "abc")
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.wait_for(asyncio.gather(first, third), 2)
        assert order == ["a", "c"]

    asyncio.run(scenario())
