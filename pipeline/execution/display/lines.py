"""A run in plain lines: one for what happens, and one with all figures every ten seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.execution.display import wording

if TYPE_CHECKING:
    from rich.console import Console

    from pipeline.execution.display.facts import Facts

REGULAR_S = 10.0
"""Time between two lines with figures."""


class LineDisplay:
    """Shows a run in lines; see `display.Display`.

    Args:
        title: The name of its task, which every line begins with.
        console: Where they are printed.
    """

    regular_s = REGULAR_S
    changes_in_place = False

    def __init__(self, title: str, console: Console) -> None:
        self._title = title
        self._console = console

    def begin(self, facts: Facts) -> None:
        """See `Display.begin`."""

    def end(self, facts: Facts) -> None:
        """See `Display.end`."""
        self.show(facts)

    def tell(self, event: str, text: str, **values: object) -> None:
        """See `Display.tell`."""
        self._print(text)

    def show(self, facts: Facts) -> None:
        """See `Display.show`."""
        self._print(figures(facts))

    def _print(self, text: str) -> None:
        self._console.print(
            f"{self._title}: {text}", highlight=False, soft_wrap=True, markup=False, emoji=False
        )


def figures(facts: Facts) -> str:
    """All figures in one line, as far as they are known."""
    speed = [wording.rows(facts), wording.rates(facts), wording.left(facts)]
    groups = [
        ", ".join(filter(None, speed)),
        wording.outcomes(facts),
        facts.doing or wording.bound(facts),
    ]
    if not facts.rows_per_second:
        groups.append(f"{wording.duration(facts.seconds)} so far")
    return "; ".join(filter(None, groups))
