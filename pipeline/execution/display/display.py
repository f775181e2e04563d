"""What a display can do, and which one a run has: the one place that decides the form.

What it is shown on decides:

    nothing to show on    none
    a `JsonLog`           JSON
    a terminal            a few lines that change in place
    any other console     plain lines
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pipeline.execution.display.json_log import JsonDisplay, JsonLog
from pipeline.execution.display.lines import LineDisplay
from pipeline.execution.display.live import LiveDisplay

if TYPE_CHECKING:
    from rich.console import Console

    from pipeline.execution.display.facts import Facts


class Display(Protocol):
    """Shows one run. Any thread may call it, one at a time."""

    regular_s: float
    """Time between two calls of `show`, in seconds."""
    changes_in_place: bool
    """Whether what the run is doing is seen with its figures, and need not be told."""

    def begin(self, facts: Facts) -> None:
        """The run has figures from now on, at first these."""
        ...

    def end(self, facts: Facts) -> None:
        """The run has ended; these are its last figures."""
        ...

    def tell(self, event: str, text: str, **values: object) -> None:
        """Say something once, that stays.

        Args:
            event: Its kind, for programs.
            text: For people, in one line.
            values: The same for programs, as JSON values.
        """
        ...

    def show(self, facts: Facts) -> None:
        """Show the figures as they are now."""
        ...


class NoDisplay:
    """Shows nothing."""

    regular_s = 60.0
    changes_in_place = True

    def begin(self, facts: Facts) -> None:
        """See `Display.begin`."""

    def end(self, facts: Facts) -> None:
        """See `Display.end`."""

    def tell(self, event: str, text: str, **values: object) -> None:
        """See `Display.tell`."""

    def show(self, facts: Facts) -> None:
        """See `Display.show`."""


def display_of(title: str, shown: Console | JsonLog | None) -> Display:
    """The display of a run.

    Args:
        title: The name of its task.
        shown: Where it is shown; None shows nothing.
    """
    if shown is None:
        return NoDisplay()
    if isinstance(shown, JsonLog):
        return JsonDisplay(title, shown)
    if shown.is_terminal and not shown.is_dumb_terminal:
        return LiveDisplay(title, shown)
    return LineDisplay(title, shown)
