"""Reasons, histograms and the plan file."""

from __future__ import annotations

import datetime
import decimal
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from jobs.report.columns import Role, columns_of
from jobs.report.histograms import histogram, of_scores, quantiles
from jobs.report.plan_file import SUFFIX, foreseen, read_plan_file
from jobs.report.reasons import group, pattern
from jobs.report.rows import shown
from jobs.report.thumbnails import encoded, interleaved
from pipeline.storage.location import locate


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("fetch: there is no file s3://b/a/1.jpg", "fetch: there is no file s3://b/c/2.png"),
        ("decode: the image has 12,345 bytes", "decode: the image has 7 bytes"),
        (
            "read: the column 'a b' is not UTF-8 (at byte 3)",
            "read: the column 'c' is not UTF-8 (at byte 4)",
        ),
        ("fetch: there is no file /data/a b.jpg", "fetch: there is no file /data/c.jpg"),
    ],
)
def test_errors_that_differ_in_names_alone_are_one_reason(one: str, other: str) -> None:
    if " b.jpg" not in one:  # a path with a space cannot be told from words
        assert pattern(one) == pattern(other)
    assert pattern(one) != pattern("generate: the engine died")


def test_reasons_are_counted_for_all_of_output() -> None:
    outcomes = ["ok", "too_long", "decode_error", "too_long"]
    errors = [None, "render: 900 tokens", "decode: cut off", "render: 1,000 tokens"]
    reasons, place = group(outcomes, errors, {"ok": 9.0, "too_long": 5.0, "decode_error": 1.0})
    assert [(r.outcome, r.rows, r.is_exact) for r in reasons] == [
        ("too_long", 10.0, False),
        ("decode_error", 1.0, True),
    ]
    assert place == [-1, 0, 1, 0]
    assert reasons[0].example == "render: 900 tokens"


@pytest.mark.parametrize(
    "values", [[1, 2, 3], [0], [5, 5, 5, None], [-3.5, 2.25], [*range(100), 10**6], [0.1] * 9]
)
def test_every_value_is_in_exactly_one_bar(values: list[float | None]) -> None:
    weights = np.linspace(1, 2, len(values))
    found = histogram("t", "u", values, weights)
    assert found is not None
    known = [w for v, w in zip(values, weights, strict=True) if v is not None]
    assert sum(bar.rows for bar in found.bars) == pytest.approx(sum(known))
    assert found.bars[0].low <= min(v for v in values if v is not None)
    assert len(found.bars) <= 26


def test_a_long_tail_is_one_bar() -> None:
    values = [float(n % 50) for n in range(1000)] + [1e6]
    found = histogram("t", "u", values, np.ones(1001))
    assert found is not None
    assert found.bars[-1].high is None
    assert found.bars[-1].low < 60
    assert found.largest == 1e6
    assert (found.median, found.p95) == (25, 47)


def test_quantiles_count_weights() -> None:
    found = quantiles(np.array([1.0, 2.0]), np.array([9.0, 1.0]), (0.5, 0.9, 0.95, 1.0))
    assert found.tolist() == [1, 1, 2, 2]


def test_scores_are_counted_from_0_to_1() -> None:
    found = of_scores("t", "p_t", [0.0, 0.049, 0.5, 1.0, None], np.ones(5))
    assert found is not None
    rows = [bar.rows for bar in found.bars]
    assert (len(rows), rows[0], rows[10], rows[-1]) == (20, 2, 1, 1)
    assert of_scores("t", "p_t", [None], np.ones(1)) is None


def test_a_picture_takes_at_most_its_share() -> None:
    from PIL import Image

    noise = Image.fromarray(np.random.default_rng(1).integers(0, 255, (400, 500, 3), np.uint8))
    large, small = encoded(noise.copy(), 48_000), encoded(noise.copy(), 2_500)
    assert (large.width, large.height) > (small.width, small.height) > (0, 0)
    assert len(small.uri) <= 2_500 * 4 / 3 + 40
    assert encoded(noise, 10).fault


def test_units_are_visited_from_everywhere_first() -> None:
    order = [*interleaved(range(1000))]
    assert sorted(order) == [*range(1000)]
    assert max(order[:63]) > 900


STATUS = SimpleNamespace(
    rows_done=90, outcomes={"ok": 80, "refused": 10}, finished="now", profile=None
)


@pytest.mark.parametrize(
    "content",
    ["", "[1]", "{", '{"rows": "many"}', "\0", json.dumps({"a": {"b": [1, {"c": None}]}})],
)
def test_a_plan_file_of_any_content_is_taken(tmp_path: Path, content: str) -> None:
    (tmp_path / f"out{SUFFIX}").write_text(content)
    found = foreseen(
        read_plan_file(locate(str(tmp_path / "out"))), cast("Any", STATUS), {"seconds": 3.0}
    )
    assert found is None or not found.compared


def test_what_was_foreseen_stands_beside_what_happened(tmp_path: Path) -> None:
    content = {
        "format": 1,
        "rows": 90,
        "there": 0,
        "time": {"seconds": 4.5, "interval": {"low": 4, "high": 5}, "rows_per_second": 20},
        "failed": {"share": 0.02, "interval": {"low": 0.01, "high": 0.2}},
        "read": {"total": 1000},
        "samples": [{"caption": "a"}],
    }
    (tmp_path / f"out{SUFFIX}").write_text(json.dumps(content))
    output = locate(str(tmp_path / "out") + "/")
    record = {"seconds": 3.0, "rows_per_second": 30.0, "new_rows": 89}
    found = foreseen(read_plan_file(output), cast("Any", STATUS), record, (1234.0, 7.0))
    assert found is not None
    assert found.compared == (
        ("rows", "90", "90"),
        ("share of rows that fail", "0.02 (0.01 to 0.2)", "0.111"),
        ("seconds", "4.5 (4 to 5)", "3"),
        ("rows a second", "20", "30"),
        ("tokens of prompts", "1,000", "1,234"),
    )
    assert found.others == (("format", "1"), ("there", "0"))
    assert foreseen(read_plan_file(locate(str(tmp_path / "none"))), cast("Any", STATUS), {}) is None


@pytest.mark.parametrize(
    ("there", "new_rows", "engines", "compared"),
    [
        (0, 5, 1, ["rows", "share of rows that fail", "tokens of answers"]),  # of a retry
        (0, 90, 2, ["rows", "share of rows that fail", "tokens of answers"]),
        (40, 50, 1, ["rows", "seconds"]),
        (40, None, 1, ["rows"]),
    ],
)
def test_a_plan_is_compared_with_what_it_was_of(
    there: int, new_rows: int | None, engines: int, compared: list[str]
) -> None:
    profile = SimpleNamespace(engine=SimpleNamespace(engines=engines))
    state = SimpleNamespace(**{**vars(STATUS), "profile": profile})
    content = {"rows": 90 - there, "there": there, "replicas": 1, "time": {"seconds": 4.0}}
    content |= {"failed": {"share": 0.1}, "written": {"total": 900}}
    found = foreseen(content, cast("Any", state), {"seconds": 3.0, "new_rows": new_rows})
    assert found is not None
    assert found.compared[0] == ("rows", "90", "90")
    assert [what for what, _, _ in found.compared] == compared


def test_an_integer_that_javascript_would_round_is_text() -> None:
    exact = 2**53 - 1
    assert [shown(value) for value in (exact, -exact, True)] == [exact, -exact, True]
    assert [shown(value) for value in (exact + 1, -exact - 1)] == [str(exact + 1), str(-exact - 1)]


def test_values_that_json_has_not_are_their_text() -> None:
    values = [datetime.date(2026, 1, 2), decimal.Decimal("12.50"), {"a": [datetime.date(1, 2, 3)]}]
    assert [*map(shown, values)] == ["2026-01-02", "12.50", '{"a": ["0001-02-03"]}']


def test_a_score_just_below_a_threshold_stays_below() -> None:
    assert (shown(0.4999999), shown(0.4999999, is_exact=True)) == (0.5, 0.4999999)
    assert shown(float("nan"), is_exact=True) is None


@pytest.mark.parametrize(
    ("results", "settings", "of"),
    [
        (["spoken_language"], {}, None),
        (["text_language", "text_language_confidence"], {}, "text"),
        (["text_language"], {"text_column": "text"}, "text"),
    ],
)
def test_a_language_is_a_remark_where_it_is_of_a_column(
    results: list[str], settings: dict[str, Any], of: str | None
) -> None:
    columns = dict.fromkeys(results, "string")
    record = {"columns": columns, "settings": settings, "config": {"prefix": "g_"}}
    found = columns_of(record, ["text", *(f"g_{name}" for name in results)]).all[1:]
    assert {column.of for column in found} == {of}
    assert {column.role for column in found} == {Role.REMARK if of else Role.ANSWER}


def test_only_a_number_is_a_score() -> None:
    names = ["p_desc_de", "p_desc_de_outcome", "p_desc_de_quality", "p_violence"]
    kinds = ["string", "string", "double", "double"]
    record = {"columns": dict(zip(names, kinds, strict=True)), "settings": {}, "config": {}}
    found = {column.name: column.role for column in columns_of(record, names).all}
    roles = [Role.ANSWER, Role.REMARK, Role.REMARK, Role.SCORE]
    assert found == dict(zip(names, roles, strict=True))
