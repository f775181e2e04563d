"""A run on a terminal: a few lines that change in place, under what it says once.

    caption: 1,200 of 3,000 rows, 40 % ━━━━━━━━━━━━╸━━━━━━━━━━━━━━━━━━━ 1 min 6 s left
      27.1 rows/s, tokens/s: 7,400 in, 512 out; 45 s so far
      1,190 ok, 8 truncated, 2 decode_error
      bound by the engine's capacity

Nothing is cut at 80 columns; what is longer wraps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pipeline.execution.display import wording

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from pipeline.execution.display.facts import Facts

REGULAR_S = 0.25
"""Time between two drawings."""
INDENT = (0, 0, 0, 2)


class LiveDisplay:
    """Shows a run in place; see `display.Display`.

    Args:
        title: The name of its task.
        console: A terminal.
    """

    regular_s = REGULAR_S
    changes_in_place = True

    def __init__(self, title: str, console: Console) -> None:
        self._title = title
        self._console = console
        # Drawn by the one who tells too: Rich (15) mixes up what two threads print at once.
        self._live = Live(console=console, auto_refresh=False)

    def begin(self, facts: Facts) -> None:
        """See `Display.begin`."""
        self._live.update(drawn(self._title, facts))
        self._live.start(refresh=True)

    def end(self, facts: Facts) -> None:
        """See `Display.end`. The last figures stay."""
        self._live.update(drawn(self._title, facts, is_over=True), refresh=True)
        self._live.stop()

    def tell(self, event: str, text: str, **values: object) -> None:
        """See `Display.tell`. It stays above the lines that change."""
        self._console.print(f"{self._title}: {text}", highlight=False, markup=False, emoji=False)

    def show(self, facts: Facts) -> None:
        """See `Display.show`."""
        self._live.update(drawn(self._title, facts), refresh=True)


def drawn(title: str, facts: Facts, *, is_over: bool = False) -> RenderableType:
    """The lines of a run.

    Args:
        title: The name of its task.
        facts: Its figures.
        is_over: Whether they are the last ones, of which nothing is left or going on.
    """
    time_left = "" if is_over else wording.left(facts)
    head = Table.grid(expand=True, padding=(0, 1, 0, 0))
    head.add_column(no_wrap=True)
    head.add_column(ratio=1)
    head.add_column(no_wrap=True, justify="right")
    bar = ProgressBar(total=max(facts.total, 1), completed=facts.done)
    head.add_row(Text(f"{title}: {wording.rows(facts)}"), bar, Text(time_left))
    speed = [wording.rates(facts), f"{wording.duration(facts.seconds)} so far"]
    lines = ["; ".join(filter(None, speed)), wording.outcomes(facts)]
    if not is_over:
        lines.append(facts.doing or wording.bound(facts))
    return Group(head, *(Padding(Text(line), INDENT, expand=False) for line in lines if line))
