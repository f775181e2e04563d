"""Waiting for a server that is away or has too much to do, and when that ends the run.

Of all requests that meet a server that is away, one small one asks whether it is back, with pauses
that grow; the others wait for it. Whatever the server answers ends the wait. If it has answered
nothing for too long, everything that waits fails with an error that ends the run.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, NoReturn

from pipeline.contract.errors import Fault
from pipeline.engine.interface import EngineDiedError
from pipeline.profiling import events

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
END_S = 10.0
"""For so long all requests fail once the run has ended."""
TOLD_S = 5.0
"""What is shorter is not worth telling."""
GO_ON = "What is finished is kept; run the same command again once it answers."


def pause_before(number: int) -> float:
    """Seconds to wait before a try, with jitter: those that failed together come apart.

    Args:
        number: Tries that have failed, from 1.
    """
    longest = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(number - 1, 16))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311  nothing secret


class Availability:
    """Whether the server can be asked now; in one event loop.

    Args:
        url: The server, for messages.
        ask: Sends the small request; None if it was answered, or why it was not.
        most: Seconds without an answer after which the run ends.
    """

    def __init__(self, url: str, ask: Callable[[], Awaitable[str | None]], most: float) -> None:
        self._url = url
        self._ask = ask
        self._most = most
        self._wait: asyncio.Task[None] | None = None
        self._answered = time.monotonic()
        self._busy_since: float | None = None
        self._resume = self._since = 0.0
        self._clocks = ("", "")
        """When it went away and when the run ends, or until when it asks to wait: times of day."""
        self._end: EngineDiedError | None = None
        self._ended = 0.0
        self._reason = ""

    @property
    def note(self) -> str:
        """What somebody who waits should know; empty while the server answers."""
        now = time.monotonic()
        if self._wait is not None and not self._wait.done() and now - self._since > TOLD_S:
            return (
                f"the endpoint is away since {self._clocks[0]} ({self._reason}); rows wait, and "
                f"the run ends at {self._clocks[1]}"
            )
        if self._resume - now > TOLD_S:
            return f"the endpoint asks to wait until {self._clocks[1]} ({self._reason})"
        return ""

    def answered(self) -> None:
        """The server has answered a request."""
        self._answered = time.monotonic()
        self._busy_since = None

    async def ready(self) -> None:
        """Wait until the server can be asked.

        Raises:
            EngineDiedError: The run ends.
        """
        while True:
            self._raise_end()
            if self._wait is not None and not self._wait.done():
                await asyncio.shield(self._wait)
            elif (left := self._resume - time.monotonic()) > 0:
                await asyncio.sleep(left)
            else:
                return

    async def back(self, reason: str) -> None:
        """Wait until the server has answered a small request.

        Args:
            reason: Why that is in doubt.

        Raises:
            EngineDiedError: The run ends.
        """
        self._raise_end()
        events.note("endpoint_retry")
        if self._wait is None or self._wait.done():
            self._reason, self._since = reason, time.monotonic()
            self._clocks = (_clock(0), _clock(self._most))
            self._wait = asyncio.create_task(self._until_back())
        await asyncio.shield(self._wait)

    async def busy(self, reason: str, seconds: float | None, number: int) -> None:
        """Wait as a server asks that has too much to do.

        Args:
            reason: What it said.
            seconds: How long it asks to wait, all requests; None if it does not say.
            number: How often it has said so to this request.

        Raises:
            EngineDiedError: It has said nothing else for too long, or asks to wait for too long.
        """
        events.note("endpoint_retry")
        now = time.monotonic()
        self._reason = reason
        self._busy_since = self._busy_since or now
        if now - self._busy_since + (seconds or 0.0) > self._most:
            asked = f", and asks to wait {seconds:.0f} s" if seconds else ""
            self.end(
                f"has answered nothing but '{reason}' for {now - self._busy_since:.0f} s{asked}"
            )
        if not seconds:
            await asyncio.sleep(pause_before(number))
        else:
            # Not all in the same moment.
            self._resume = max(self._resume, now + seconds)
            self._clocks = ("", _clock(self._resume - now))
            await asyncio.sleep(seconds + random.uniform(0.0, FIRST_PAUSE_S))  # noqa: S311

    def end(self, what: str, *, is_users: bool = False) -> NoReturn:
        """End the run: fail all that waits.

        Args:
            what: What the server does.
            is_users: Whether the user has something to mend.

        Raises:
            EngineDiedError: Always, or the one before.
        """
        if self._end is None:
            message = f"the endpoint {self._url} {what}"
            fault = Fault(
                ends_run=True,
                message=message if is_users else f"{message}\n{GO_ON}",
                is_users=is_users,
            )
            self._end, self._ended = EngineDiedError(message, fault), time.monotonic()
        raise self._end

    def _raise_end(self) -> None:
        """Raise what ended the run; not later, when a warm engine is given another one."""
        if self._end is not None and time.monotonic() - self._ended < END_S:
            raise self._end
        if self._end is not None:
            self._end = self._busy_since = None

    async def _until_back(self) -> None:
        began, number = self._since, 0
        while self._answered <= began:
            fault = await self._ask()
            if fault is None:
                self.answered()
                return
            self._reason, number = fault, number + 1
            away = time.monotonic() - began
            if away > self._most and self._answered <= began:
                self.end(f"has not answered for {_minutes(away)} ({fault})")
            await asyncio.sleep(min(pause_before(number), max(0.0, self._most - away) + 0.1))


def _clock(seconds: float) -> str:
    """The time of day in so many seconds, with this machine's zone; the reader's may be another."""
    return time.strftime("%H:%M:%S %Z", time.localtime(time.time() + seconds))


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"  # noqa: PLR2004
