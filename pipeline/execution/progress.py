"""What is known of a run while it works, and when it is shown. The form is the display's.

Rows that were there before this run count as done; what became of them is told apart.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Self

from pipeline.execution.display.facts import Facts
from pipeline.execution.pace import Amounts, Pace
from pipeline.profiling.bounds import verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pipeline.execution.display.display import Display
    from pipeline.profiling.profile import Profile

BOUND_EVERY_S = 5.0
"""Time between two looks at what bounds the run."""
BOUND_AFTER_S = 5.0
"""Rows flow for so long before anything is said of it."""


class RunProgress:
    """Shows a run. A context manager, within which figures are shown; any thread may call it.

    Args:
        display: Shows it.
        total: Rows of the run.
        there: Rows that are in parts already.
        failed_before: Those of them without results.
    """

    def __init__(
        self,
        display: Display,
        total: int,
        *,
        there: int = 0,
        failed_before: int = 0,
    ) -> None:
        self._total = total
        self._display = display
        self._there = self._told = 0
        self._done = self._failed_before = 0
        self._outcomes = Counter[str]()
        self._pace = Pace()
        self._began = self._bounded = time.monotonic()
        self._doing = ""
        self._bound: str | None = None
        self._warned: set[str] = set()
        self._lock = threading.RLock()
        self._is_over = threading.Event()
        self._regular = threading.Thread(target=self._show_regularly, name="shown", daemon=True)
        self.skip(there, failed_before)

    def __enter__(self) -> Self:
        with self._lock:
            self._display.begin(self.facts())
        self._regular.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._regular.join()
        with self._lock:
            self._display.end(self.facts())

    def facts(self) -> Facts:
        """The figures as they are now."""
        pace = self._pace.each_second()
        return Facts(
            done=self._done,
            total=self._total,
            seconds=time.monotonic() - self._began,
            there=self._there,
            failed_before=self._failed_before,
            outcomes=dict(self._outcomes),
            rows_per_second=pace.rows,
            input_tokens_per_second=pace.input_tokens,
            output_tokens_per_second=pace.output_tokens,
            seconds_left=(self._total - self._done) / pace.rows if pace.rows else None,
            doing=self._doing,
            bound=self._bound,
        )

    def skip(self, rows: int, failed: int = 0) -> None:
        """Count rows as done that this run need not compute; the rate leaves them out.

        Args:
            rows: How many.
            failed: Those of them without results.
        """
        with self._lock:
            self._there += rows
            self._done += rows
            self._failed_before += failed

    def tell_there(self) -> None:
        """Say how many rows were there before this run, if that is not said already."""
        if self._told != self._there:
            self._told = self._there
            failed = f", {self._failed_before:,} of them failed" if self._failed_before else ""
            self.tell(
                "resumed",
                f"{self._there:,} of {self._total:,} rows are there already{failed}",
                rows=self._there,
                of=self._total,
                failed=self._failed_before,
            )

    def advance(
        self, outcomes: Mapping[str, int], input_tokens: int = 0, output_tokens: int = 0
    ) -> None:
        """Count more rows as done.

        Args:
            outcomes: Rows by outcome.
            input_tokens: Tokens of their prompts.
            output_tokens: Tokens of their answers.
        """
        rows = sum(outcomes.values())
        with self._lock:
            self._done += rows
            self._outcomes.update(outcomes)
            self._pace.add(Amounts(rows, input_tokens, output_tokens))

    def bounded(self, profile: Callable[[], Profile]) -> None:
        """Look at what bounds the run, if the last time is long enough ago.

        Args:
            profile: Gives its profile by now.
        """
        if time.monotonic() - self._bounded < BOUND_EVERY_S:
            return
        self._bounded = time.monotonic()
        found = profile()
        if found.seconds - found.flowing >= BOUND_AFTER_S:
            self._bound = verdict(found).afterwards

    def state(self, text: str, *, over: str = "") -> None:
        """Show what the run is doing, until it does something else.

        Args:
            text: What; empty where it works on rows.
            over: What is said of that where nothing changes in place.
        """
        with self._lock:
            if text == self._doing:
                return
            self._doing = text
            if (text or over) and not self._display.changes_in_place:
                self._display.tell("state", text or over)

    def tell(self, event: str, text: str, **values: object) -> None:
        """Say something that stays; see `Display.tell`."""
        with self._lock:
            self._display.tell(event, text, **values)

    def note(self, event: str, text: str, **values: object) -> None:
        """Say something that is only worth keeping: not on a terminal, where lines change."""
        if not self._display.changes_in_place:
            self.tell(event, text, **values)

    def warn(self, kind: str, text: str, **values: object) -> None:
        """Say what somebody should know before it is too late; of each kind once.

        Args:
            kind: What it is about.
            text: What it is, and what to do, in one line.
            values: The same for programs, as JSON values.
        """
        with self._lock:
            if kind not in self._warned:
                self._warned.add(kind)
                self._display.tell("warning", f"warning: {text}", kind=kind, **values)

    def _show_regularly(self) -> None:
        while not self._is_over.wait(self._display.regular_s):
            with self._lock:
                self._display.show(self.facts())
