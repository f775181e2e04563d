"""The measurement of a whole job around a device that only takes time."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from jobs.cli.bench.report import Side
from tests.speed.timed_command import measure


@pytest.mark.long
def test_all_sides_answer_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMED_DEVICE", "0.01,0,0")
    report = measure(
        tmp_path / "model", rows=6, in_flight=4, tokens_in=20, tokens_out=5, console=Console()
    )
    assert report.outcomes == {"ok": 6}
    for side in (Side.ENGINE, Side.OFFLINE, Side.JOB):
        (rate,) = report.rates[side]
        assert rate.tokens == pytest.approx(5 * rate.rows), side
        # Two turns of four slots, of five steps each and one for the prompt at most.
        assert rate.rows <= 6 / (2 * 5 * 0.01), side
