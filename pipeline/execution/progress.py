"""How the progress of a run is shown: as a bar on a terminal, as plain lines elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

if TYPE_CHECKING:
    from rich.console import Console

LINE_EVERY_S = 10.0
"""Least time between two lines if there is no terminal."""


class RunProgress:
    """Shows rows done, their rate, failures and the time left. A context manager.

    Rows that were there before this run count as done; their failures are told apart.

    Args:
        title: The name of the task.
        total: Rows of the run.
        console: Where to show it; None shows nothing.
        there: Rows that are in parts already.
        failed_before: Those of them without results.
    """

    def __init__(
        self,
        title: str,
        total: int,
        console: Console | None,
        *,
        there: int = 0,
        failed_before: int = 0,
    ) -> None:
        self._title = title
        self._total = total
        self._console = console
        self._there = self._told = 0
        self._done = self._failed = self._failed_before = 0
        self._began = self._last_line = time.monotonic()
        self._first: tuple[float, int] | None = None
        self._bar = _bar(console) if console is not None and console.is_terminal else None
        self._task = None if self._bar is None else self._bar.add_task(title, total=total, state="")
        self.skip(there, failed_before)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def skip(self, rows: int, failed: int = 0) -> None:
        """Count rows as done that this run need not compute; the rate leaves them out.

        Args:
            rows: How many.
            failed: Those of them without results.
        """
        self._there += rows
        self._done += rows
        self._failed_before += failed
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self._done)

    def tell_there(self) -> None:
        """Say how many rows were there before this run, if that is not said already."""
        if self._told != self._there:
            self._told = self._there
            failed = f", {self._failed_before:,} of them failed" if self._failed_before else ""
            self.say(f"{self._there:,} of {self._total:,} rows are there already{failed}")

    def advance(self, rows: int, failed: int) -> None:
        """Count more rows as done, `failed` of them without results."""
        now = time.monotonic()
        self._done += rows
        self._first = self._first or (now, self._done)
        self._failed += failed
        state = self._state(now)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self._done, state=state)
        elif now - self._last_line >= LINE_EVERY_S or self._done == self._total:
            self._last_line = now
            self.say(f"{self._done:,} of {self._total:,} rows, {state}")

    def say(self, text: str) -> None:
        """Show what the run is doing."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, state=text)
        elif self._console is not None:
            self._console.print(f"{self._title}: {text}", highlight=False, soft_wrap=True)

    def _state(self, now: float) -> str:
        # The rate starts with the first rows: the engine's start would make it far too low.
        began, rows_before = self._first or (now, 0)
        failed = f", {self._failed:,} failed" if self._failed else ""
        if self._failed_before:
            failed += f", {self._failed_before:,} failed before"
        if now - began < 1 or self._done == rows_before:
            return f"{now - self._began:.0f} s{failed}"
        rate = (self._done - rows_before) / (now - began)
        left = (self._total - self._done) / rate
        return f"{rate:.1f} rows/s, {left:.0f} s left{failed}"


def _bar(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[state]}"),
        console=console,
    )
