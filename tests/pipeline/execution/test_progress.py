"""What is shown of a run: all rows that are there, and the failures of this run apart."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from pipeline.execution import progress as module
from pipeline.execution.progress import RunProgress


def lines(console: Console) -> list[str]:
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined,no-any-return]


def test_rows_that_were_there_are_told_once_and_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINE_EVERY_S", 0.0)
    console = Console(file=io.StringIO(), force_terminal=False)
    with RunProgress("colour", 3000, console, there=608, failed_before=7) as progress:
        progress.skip(500, 1)
        progress.tell_there()
        progress.advance(92, 2)
        progress.tell_there()
        progress.advance(1800, 0)
    shown = lines(console)
    assert shown[0] == "colour: 1,108 of 3,000 rows are there already, 8 of them failed"
    assert [line.split(", ")[0] for line in shown[1:]] == [
        "colour: 1,200 of 3,000 rows",
        "colour: 3,000 of 3,000 rows",
    ]
    assert all(line.endswith("2 failed, 8 failed before") for line in shown[1:])


def test_a_bar_begins_with_what_is_there() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with RunProgress("colour", 3000, console, there=608) as progress:
        progress.skip(500)
        progress.tell_there()
    assert "1108/3000" in "".join(lines(console))


def test_a_run_from_the_start_says_nothing_of_it() -> None:
    console = Console(file=io.StringIO(), force_terminal=False)
    with RunProgress("colour", 3, console) as progress:
        progress.tell_there()
    assert lines(console) == []
