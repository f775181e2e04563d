"""How many requests the server has at once: as many as make it answer more a second, no more.

It begins with a few and doubles them while that pays. Afterwards it adds some now and then
(additive increase), takes them back where answers only took longer, and halves where the server
says that it is too much (multiplicative decrease). What is measured is a round: answers to as many
requests, sent since it began, as there may be at once. Answers a second are the requests at once
by the time that each took (Little's law). A round in which there were fewer says nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

FIRST = 16
"""Requests at once at first."""
LEAST_ROUND = 16
"""Answers in a round, at least: of few answers the time says little."""
PAYS = 0.3
"""Share of an increase that must be seen in the answers a second. (Twice the requests are kept for
1.3 times the answers.) If there are none, each request only takes longer."""
STEP = 4
"""The limit grows by one for every so many that it is, after the first phase."""
HOLD = 8
"""Rounds until an increase is tried again that did not pay."""
SLOWER = 0.5
"""Answers a second, as a share of those before, at which there are fewer requests at once."""
DECREASE = 0.75


class Concurrency:
    """Limits requests at once; in one event loop.

    Args:
        most: Most requests at once.
        first: Requests at once at first.
    """

    def __init__(self, most: int, first: int = FIRST) -> None:
        self._most = most
        self._limit = float(min(first, most))
        self.running = 0
        """Requests that the server has now."""
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._doubles = True
        self._before: tuple[float, float] | None = None
        """The limit and the answers a second before the last increase."""
        self._held = 0
        self._rate: float | None = None
        """Answers a second at this limit, smoothed."""
        self._cuts = 0
        self._has_answered = True
        """Whether there was an answer since it was halved."""
        self._was_full = False
        self._begin_round()

    @property
    def limit(self) -> int:
        """Most requests at once, now."""
        return int(self._limit)

    @property
    def waiting(self) -> int:
        """Requests that wait until they may be sent."""
        return len(self._waiting)

    @property
    def cuts(self) -> int:
        """How often the limit was halved; for `cut`."""
        return self._cuts

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[float]:
        """Within the block, a request is sent; waits until it may be. Gives the moment."""
        while self.running >= self.limit:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                self._wake()  # another one in its place
                raise
        self.running += 1
        self._was_full = self._was_full or self.running >= self.limit
        try:
            yield time.monotonic()
        finally:
            self.running -= 1
            self._wake()

    def answered(self, sent: float) -> None:
        """Count an answer; judges the limit at the end of a round.

        Args:
            sent: When its request was sent; see `turn`.
        """
        self._has_answered = True
        if sent < self._began:
            return
        self._answers += 1
        self._seconds += time.monotonic() - sent
        if self._answers >= max(self.limit, LEAST_ROUND) and self._seconds > 0:
            if self._was_full:
                self._judge(self.limit / (self._seconds / self._answers))
            self._begin_round()
            self._wake()

    def cut(self, seen: int) -> None:
        """Halve the limit, because the server says that it is too much, or failed.

        Once until it answers: one that is away, or starts, refuses one request as it does many.

        Args:
            seen: `cuts` when the request was sent that this is about. Of those that were on their
                way together, the first one halves it.
        """
        if seen == self._cuts and self._has_answered:
            self._cuts += 1
            self._has_answered = False
            self._limit = max(1.0, self._limit / 2)
            self._settle(None)
            self._begin_round()

    def _judge(self, rate: float) -> None:
        """Choose the limit by the answers a second at the present one."""
        if self._before is not None:
            limit, before = self._before
            if rate < before * (1 + PAYS * (self._limit / limit - 1)):
                self._limit = limit
                self._settle(before)
                return
            self._before = None
            self._rate, self._held = rate, 0
        elif self._rate is not None and rate < SLOWER * self._rate:
            self._limit = max(1.0, self._limit * DECREASE)
            self._settle(rate)
            return
        self._rate = rate if self._rate is None else (self._rate + rate) / 2
        self._held -= 1
        if self._held < 0 and self._limit < self._most:
            grown = self._limit * 2 if self._doubles else self._limit + max(1, self.limit // STEP)
            self._before = (self._limit, self._rate)
            self._limit = min(float(self._most), grown)

    def _settle(self, rate: float | None) -> None:
        """Stay at this limit for some rounds; from now on it grows slowly."""
        self._doubles = False
        self._before, self._rate, self._held = None, rate, HOLD

    def _begin_round(self) -> None:
        self._began = time.monotonic()
        self._answers, self._seconds = 0, 0.0
        self._was_full = self.running >= self.limit

    def _wake(self) -> None:
        free = self.limit - self.running
        while self._waiting and free > 0:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                free -= 1
