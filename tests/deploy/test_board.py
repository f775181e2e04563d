"""The Grafana board in `deploy/grafana/` asks for metrics and labels that there are."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from pipeline.metrics.table import TABLE, Kind, Metric

BOARD = Path(__file__).parents[2] / "deploy/grafana/gemma3-batch.json"
PAGE = BOARD.parents[2] / "docs/metrics.md"
RAYS_LABELS = {"NodeAddress", "WorkerId", "SessionName"}
BUCKET = "le"
WIDTH = 24
"""Columns of Grafana's grid."""
WANTED = {
    "rows_total", "rows_left", "rows_planned", "prompt_tokens_total", "output_tokens_total",
    "engine_running_requests", "engine_waiting_requests", "engine_queued_rows",
    "row_seconds_total", "stage_seconds_total", "commit_seconds_bucket", "store_retries_total",
    "prefix_cache_hits_total",
}  # fmt: skip
"""What the board must show, whatever else."""


@pytest.fixture
def board() -> dict[str, Any]:
    return dict(json.loads(BOARD.read_text()))


def expressions(board: dict[str, Any]) -> Iterator[str]:
    """Every query of the board, as Prometheus gets it."""
    for panel in board["panels"]:
        for target in panel["targets"]:
            yield re.sub(r"\$__(rate_interval|range)", "5m", target["expr"])


def nodes(tree: Any) -> Iterator[Any]:
    """A parsed expression and all that it consists of."""
    yield tree
    for name in ("lhs", "rhs", "expr", "param", "vector_selector", "args"):
        below = getattr(tree, name, None)
        for part in below if isinstance(below, list) else [below]:
            if part is not None:
                yield from nodes(part)


def exported(metrics: tuple[Metric, ...] = TABLE) -> dict[str, set[str]]:
    """The labels of each name that Prometheus finds."""
    found = {}
    for metric in metrics:
        labels = {*metric.labels} | RAYS_LABELS
        if metric.kind is Kind.HISTOGRAM:
            found[f"{metric.exported}_bucket"] = labels | {BUCKET}
            found |= dict.fromkeys((f"{metric.exported}_sum", f"{metric.exported}_count"), labels)
        else:
            found[metric.exported] = labels
    return found


def faults(board: dict[str, Any]) -> list[str]:
    """What is wrong with the board's queries."""
    known, found = exported(), []
    for expression in expressions(board):
        parts = [*nodes(promql_parser.parse(expression))]
        asked = [part for part in parts if isinstance(part, promql_parser.VectorSelector)]
        labels = set.union(set(), *(known.get(one.name, set()) for one in asked))
        found += [f"no metric {one.name}" for one in asked if one.name not in known]
        found += [f"{one.name}: no choice of a run" for one in asked if not _is_of_run(one)]
        used = {matcher.name for one in asked for matcher in one.matchers.matchers}
        for part in parts:
            modifier = getattr(part, "modifier", None)
            used |= {*getattr(modifier, "labels", ())}
            used |= {*getattr(getattr(modifier, "matching", None), "labels", ())}
        found += [f"no label {name}" for name in used - labels]
    return found


def _is_of_run(asked: promql_parser.VectorSelector) -> bool:
    return any(one.name == "run" and one.value == "$run" for one in asked.matchers.matchers)


def test_the_board_asks_for_what_there_is(board: dict[str, Any]) -> None:
    assert faults(board) == []


def test_the_board_shows_what_an_operator_asks_first(board: dict[str, Any]) -> None:
    text = "\n".join(expressions(board))
    assert {name for name in WANTED if f"ray_gemma3_batch_{name}" not in text} == set()


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("rows_left{", "rows_remaining{", "no metric ray_gemma3_batch_rows_remaining"),
        ("by (outcome)", "by (result)", "no label result"),
        ('where="before"', 'place="before"', "no label place"),
        ('outcome!~"ok', 'result!~"ok', "no label result"),
        ("on (run, stage)", "on (run, state)", "no label state"),
        ('slots{run=~"$run"}', "slots", "ray_gemma3_batch_engine_slots: no choice of a run"),
        ("commit_seconds_bucket", "commit_seconds", "no metric ray_gemma3_batch_commit_seconds"),
    ],
)
def test_a_wrong_name_is_seen(board: dict[str, Any], old: str, new: str, fault: str) -> None:
    wrong = copy.deepcopy(board)
    for panel in wrong["panels"]:
        for target in panel["targets"]:
            target["expr"] = target["expr"].replace(old, new)
    assert wrong != board
    assert fault in faults(wrong)


def test_the_alerts_in_the_documentation_ask_for_what_there_is() -> None:
    (text,) = re.findall(r"```yaml\n(groups:.*?)```", PAGE.read_text(), re.DOTALL)
    (group,) = yaml.safe_load(text)["groups"]
    known = exported()
    for rule in group["rules"]:
        parts = [*nodes(promql_parser.parse(rule["expr"]))]
        asked = {one.name for one in parts if isinstance(one, promql_parser.VectorSelector)}
        assert asked
        assert asked <= {*known}


def test_a_broken_query_is_seen(board: dict[str, Any]) -> None:
    board["panels"][0]["targets"][0]["expr"] += ")"
    with pytest.raises(ValueError, match="unexpected"):
        faults(board)


def test_panels_lie_side_by_side(board: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        x, y, w, h = (panel["gridPos"][key] for key in "xywh")
        assert x + w <= WIDTH
        cells = {(x + i, y + j) for i in range(w) for j in range(h)}
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_legends_name_labels_that_there_are(board: dict[str, Any]) -> None:
    labels = set.union(*exported().values())
    for panel in board["panels"]:
        for target in panel["targets"]:
            named = {*re.findall(r"{{(\w+)}}", target["legendFormat"])}
            assert named <= labels
            by = re.search(r"by \(([\w, ]+)\)", target["expr"])
            is_summed = target["expr"].startswith(("sum", "max"))
            assert not is_summed or named <= {*(by[1].split(", ") if by else ())}
