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


def test_outcomes_are_told_from_the_best_and_the_place_with_what_opens_it() -> None:
    result = RunResult(
        output="s3://bucket/out", rows=4, outcomes={"decode_error": 1, "kept": 1, "ok": 2},
        duplicates=0, new_rows=4, model_class="m.C", seconds=1.0, rows_per_second=3.0,
        storage_options={"s3": {"key": "secret"}},
    )  # fmt: skip
    text = summary(result)
    assert "4 rows (2 ok, 1 kept, 1 decode_error);" in text
    assert "gemma3-batch errors s3://bucket/out --storage-options ...\n" in text
    assert "secret" not in text
