"""What is shown of engines that start, and of engines that are kept later."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pipeline.contract.errors import RunError
from pipeline.execution import start_watch
from pipeline.execution.engine_logs import EngineLogs
from pipeline.execution.error_rate import ErrorRateError
from pipeline.execution.start_watch import GO_ON, watching_start
from pipeline.stages.start_board import READY
from pipeline.storage.write_fault import OutputError


class Shown(list[str]):
    """What was said, as `RunProgress` would show it."""

    def state(self, text: str, *, over: str = "") -> None:
        said = text or over
        if said and said != (self or [""])[-1]:
            self.append(said)

    def note(self, event: str, text: str, **_: object) -> None:
        self.append(text)


class Board:
    """A board without Ray's store; changes at each look."""

    def __init__(self, looks: list[tuple[list[str], list[str]]]) -> None:
        self._looks: Iterator[tuple[list[str], list[str]]] = iter(looks)
        self._notes: list[str] = []

    def notes(self) -> list[str]:
        self._steps, self._notes = next(self._looks)
        return self._notes

    def steps(self) -> list[str]:
        return self._steps

    def logs(self) -> list[str]:
        return ["/logs/engine.err"]

    def forget(self) -> None:
        pass


def shown(board: Board, monkeypatch: pytest.MonkeyPatch) -> Shown:
    monkeypatch.setattr(start_watch, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(start_watch, "StartBoard", lambda: board)
    progress: Any = Shown()
    logs = EngineLogs()
    logs.tell_on(progress)
    with watching_start(progress, logs, tells_notes=True) as watch:
        while "rows are back" not in board._notes:
            pass
        watch.stop()
        while board._notes != ["the end"]:
            pass
    return Shown(text for text in progress if text != "the end")


def test_what_keeps_an_engine_is_shown_once_and_that_it_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = [
        (["weights"], []),
        ([READY], []),
        ([READY], ["away before any row"]),
        *[([READY], ["rows are back"])] * 200,
        ([READY], []),
        ([READY], []),
        ([READY], ["away"]),
        ([READY], ["away"]),
        ([READY], []),
        *[([READY], ["the end"])] * 500,
    ]
    assert shown(Board(looks), monkeypatch) == [
        "engine log: /logs/engine.err",
        "starting the engine: loading the weights",
        "waiting for the first rows",
        "away before any row",
        "rows are back",
        GO_ON,
        "away",
        GO_ON,
    ]


@pytest.mark.parametrize(
    ("error", "is_named"),
    [
        (RunError("the engine did not start: X"), True),
        (ErrorRateError("all rows failed"), False),
        (OutputError("the disk is full"), False),
    ],
)
def test_an_error_that_an_engines_log_may_explain_names_it(error: RunError, is_named: bool) -> None:
    logs, board = EngineLogs(), Board([])
    logs.add(board)  # type: ignore[arg-type]
    with pytest.raises(type(error)) as told, logs.naming():
        raise error
    assert str(told.value).endswith("\nEngine log: /logs/engine.err") == is_named
    with pytest.raises(RunError, match=r"^it$"), EngineLogs().naming():
        raise RunError("it")
