"""What is known of a run while it works, and how each form of display says the same."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console

from pipeline.execution import pace as pace_module
from pipeline.execution.display.display import display_of
from pipeline.execution.display.facts import Facts
from pipeline.execution.display.json_log import JsonLog
from pipeline.execution.display.lines import figures
from pipeline.execution.display.live import drawn
from pipeline.execution.display.wording import duration, percentage
from pipeline.execution.pace import Amounts, Pace
from pipeline.execution.progress import RunProgress

FACTS = Facts(
    done=1200,
    total=3000,
    seconds=75,
    there=608,
    failed_before=7,
    outcomes={"decode_error": 2, "truncated": 8, "ok": 582},
    rows_per_second=27.14,
    input_tokens_per_second=7400.2,
    output_tokens_per_second=51.25,
    seconds_left=66.3,
    bound="engine",
)


def console(width: int = 80, *, terminal: bool = False) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=width, color_system=None)


def lines(shown: Console) -> list[str]:
    return shown.file.getvalue().splitlines()  # type: ignore[attr-defined,no-any-return]


def objects(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def run(progress: RunProgress) -> None:
    """A run that resumes, starts, fails a little, is warned twice of the same, and ends."""
    with progress:
        progress.skip(500, 1)
        progress.tell_there()
        progress.state("starting the engine: loading the weights")
        progress.state("")
        progress.advance({"ok": 90, "decode_error": 2}, 920, 300)
        progress.tell_there()
        progress.warn("disk", "the disk is nearly full", path="/out")
        progress.warn("disk", "the disk is nearly full", path="/out")
        progress.advance({"ok": 1800}, 18_000, 6_000)


def test_lines_say_what_happens_once_and_end_with_all_figures() -> None:
    shown = console()
    run(RunProgress(display_of("colour", shown), 3000, there=608, failed_before=7))
    assert lines(shown)[:3] == [
        "colour: 1,108 of 3,000 rows are there already, 8 of them failed",
        "colour: starting the engine: loading the weights",
        "colour: warning: the disk is nearly full",
    ]
    (last,) = lines(shown)[3:]
    assert last.startswith("colour: 3,000 of 3,000 rows, 100 %")
    assert "1,890 ok, 2 decode_error, 8 failed before" in last


def test_json_says_the_same_one_object_a_line() -> None:
    stream = io.StringIO()
    run(RunProgress(display_of("colour", JsonLog(stream)), 3000, there=608, failed_before=7))
    there, starting, warning, last = objects(stream)
    assert (there["event"], there["rows"], there["of"], there["failed"]) == (
        "resumed", 1108, 3000, 8,
    )  # fmt: skip
    assert (starting["event"], starting["message"]) == (
        "state",
        "starting the engine: loading the weights",
    )
    assert (warning["event"], warning["kind"], warning["path"]) == ("warning", "disk", "/out")
    assert last["event"] == "progress"
    assert (last["rows"], last["rows_there"], last["failed_before"]) == (3000, 1108, 8)
    assert last["outcomes"] == {"ok": 1890, "decode_error": 2}
    assert {one["job"] for one in (there, starting, warning, last)} == {"colour"}
    assert all(one["time"].endswith("Z") for one in (there, starting, warning, last))


def test_json_has_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret_secret")
    stream = io.StringIO()
    display_of("t", JsonLog(stream)).tell("state", "hf_secret_secret at https://u:p@host/x")
    assert "secret" not in stream.getvalue()
    assert "u:p" not in stream.getvalue()


def test_json_stays_json_without_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", "progress")
    stream = io.StringIO()
    JsonLog(stream).write(
        "progress", why=['403 for "https://h/p?X-Sig=1"'], at={"path": "s3://k:s@b"}
    )
    (found,) = objects(stream)
    assert found["event"] == "progress"
    assert found["why"] == ['403 for "https://h/p"']
    assert found["at"] == {"path": "s3://b"}


@pytest.mark.parametrize("terminal", [False, True])
def test_a_path_is_shown_as_it_is(terminal: bool) -> None:
    shown = console(terminal=terminal)
    display_of("caption", shown).tell("log", "/data/a:100:b/out [red]")
    assert lines(shown) == ["caption: /data/a:100:b/out [red]"]


def test_what_a_terminal_echoes_stays_on_the_last_line() -> None:
    """After a line as wide as the terminal, `^C` would begin another and shift what follows."""
    shown = console(terminal=True)
    shown.print(drawn("colour", FACTS), end="")
    assert len(lines(shown)[-1]) <= 80 - len("^C")


def test_a_terminal_shows_figures_below_what_it_says() -> None:
    shown = console(terminal=True)
    run(RunProgress(display_of("colour", shown), 3000, there=608, failed_before=7))
    text = "\n".join(lines(shown))
    assert text.count("warning: the disk is nearly full") == 1
    assert "colour: 1,108 of 3,000 rows are there already, 8 of them failed" in text
    assert "1,890 ok, 2 decode_error, 8 failed before" in text.rpartition("colour: ")[2]


@pytest.mark.parametrize("terminal", [False, True])
def test_nothing_that_is_said_is_taken_for_a_picture_or_a_style(terminal: bool) -> None:
    shown = console(terminal=terminal)
    display_of("own:cat:", shown).tell("warning", "line:100: is [bold]")
    assert lines(shown)[0].rstrip() == "own:cat:: line:100: is [bold]"


def test_nothing_is_shown_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    run(RunProgress(display_of("colour", None), 3000))
    assert capsys.readouterr() == ("", "")


def test_a_dumb_terminal_has_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    shown = console(terminal=True)
    with RunProgress(display_of("colour", shown), 3):
        pass
    assert lines(shown) == ["colour: 0 of 3 rows, 0 %; 0 s so far"]


def test_there_is_a_line_regularly_also_where_no_row_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = console()
    display = display_of("colour", shown)
    monkeypatch.setattr(display, "regular_s", 0.02)
    with RunProgress(display, 3) as progress:
        progress.state("starting the engine: loading the weights")
        until = time.monotonic() + 30
        while len(lines(shown)) < 4 and time.monotonic() < until:
            time.sleep(0.01)
    assert lines(shown)[2] == (
        "colour: 0 of 3 rows, 0 %; starting the engine: loading the weights; 0 s so far"
    )


def test_all_figures_are_in_one_line() -> None:
    assert figures(FACTS) == (
        "1,200 of 3,000 rows, 40 %, 27.1 rows/s, tokens/s: 7,400 in, 51.2 out, 1 min 6 s left; "
        "582 ok, 8 truncated, 2 decode_error, 7 failed before; bound by the engine's capacity"
    )


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_cuts_nothing(width: int) -> None:
    shown = console(width)
    shown.print(drawn("caption", FACTS))
    first, *others = lines(shown)
    assert first.startswith("caption: 1,200 of 3,000 rows, 40 % ━")
    assert first.rstrip().endswith(" 1 min 6 s left")
    assert len(first) <= width
    assert [line.rstrip() for line in others] == [
        "  27.1 rows/s, tokens/s: 7,400 in, 51.2 out; 1 min 15 s so far",
        "  582 ok, 8 truncated, 2 decode_error, 7 failed before",
        "  bound by the engine's capacity",
    ]


def test_the_largest_run_fits_into_80_columns() -> None:
    facts = Facts(
        done=999_999_999,
        total=1_000_000_000,
        seconds=2 * 86400,
        outcomes=dict.fromkeys(
            ("ok", "truncated", "decode_error", "missing_input", "too_long", "refused"), 10**8
        ),
        rows_per_second=4500,
        input_tokens_per_second=1_200_000,
        output_tokens_per_second=900_000,
        seconds_left=3 * 86400,
        bound="front_end",
    )
    shown = console()
    shown.print(drawn("translate", facts))
    assert max(map(len, lines(shown))) <= 80
    text = " ".join(" ".join(lines(shown)).split())
    assert "999,999,999 of 1,000,000,000 rows, 99 %" in text
    assert "100,000,000 refused" in text
    assert "3 d 0 h left" in text


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (59.4, "59 s"), (200, "3 min 20 s"), (3900, "1 h 5 min"), (183_600, "2 d 3 h")],
)
def test_times_have_their_two_largest_units(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_not_all_is_not_100_percent() -> None:
    assert percentage(9999, 10_000) == "99 %"
    assert [percentage(rows, 100) for rows in range(101)] == [f"{rows} %" for rows in range(101)]
    assert percentage(0, 0) == "100 %"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    now = [0.0]
    monkeypatch.setattr(pace_module.time, "monotonic", lambda: now[0])
    return now


def test_the_pace_is_that_of_the_last_minute(clock: list[float]) -> None:
    pace = Pace()
    assert pace.each_second() == Amounts()
    pace.add(Amounts(1000, 0, 0))  # what the start had gathered says nothing of the rate
    for _ in range(60):
        clock[0] += 1
        pace.add(Amounts(10, 200, 30))
    assert pace.each_second() == Amounts(10, 200, 30)
    for _ in range(120):
        clock[0] += 1
        pace.add(Amounts(20, 400, 60))
    assert pace.each_second() == Amounts(20, 400, 60)
    clock[0] += 61
    assert pace.each_second().rows == pytest.approx(10, rel=0.05), "nothing comes back any more"


def test_of_rare_receipts_the_last_few_count(clock: list[float]) -> None:
    pace = Pace()
    for _ in range(20):
        clock[0] += 100
        pace.add(Amounts(50, 0, 0))
    assert pace.each_second().rows == pytest.approx(0.5)
