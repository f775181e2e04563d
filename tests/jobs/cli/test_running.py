"""The summary of a run."""

from __future__ import annotations

import pytest

from jobs.cli.running import summary
from pipeline import RunResult


@pytest.mark.parametrize(
    ("outcomes", "is_told"),
    [({"ok": 3}, False), ({"ok": 2, "truncated": 1}, False), ({"ok": 2, "decode_error": 1}, True)],
)
def test_what_shows_why_rows_failed_is_named_where_some_did(
    outcomes: dict[str, int], is_told: bool
) -> None:
    result = RunResult(
        output="/my data/out", rows=3, outcomes=outcomes, duplicates=0, new_rows=3,
        model_class="m.C", seconds=1.0, rows_per_second=3.0,
    )  # fmt: skip
    lines = summary(result).splitlines()
    assert ("Why rows failed: gemma3-batch errors '/my data/out'" in lines) == is_told
