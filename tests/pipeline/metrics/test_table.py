"""The names keep Prometheus' conventions, and the documentation has all of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline.metrics.labels import RunLabels
from pipeline.metrics.reference import as_markdown
from pipeline.metrics.table import OF_RUN, TABLE, Kind, Metric

ROOT = Path(__file__).parents[3]
RESERVED = {"job", "instance", "le", "quantile", "exported_job"}
"""Labels of Prometheus' own."""


def test_names_are_told_once() -> None:
    assert len({metric.name for metric in TABLE}) == len(TABLE)


@pytest.mark.parametrize("metric", TABLE, ids=lambda metric: metric.name)
def test_names_keep_to_the_conventions(metric: Metric) -> None:
    assert re.fullmatch(r"gemma3_batch(_[a-z]+)+", metric.name)
    assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
    assert bool(metric.buckets) == (metric.kind is Kind.HISTOGRAM)
    assert [*metric.buckets] == sorted(metric.buckets)
    if metric.unit == "seconds":
        assert "_seconds" in metric.name
    assert metric.labels[: len(OF_RUN)] == OF_RUN
    assert not {*metric.labels} & RESERVED
    assert metric.description.endswith(".")


def test_the_page_has_the_table() -> None:
    page = (ROOT / "docs/metrics.md").read_text()
    assert as_markdown() in page, "run `make reference`"


def test_a_run_keeps_its_label_and_shares_it_with_no_other() -> None:
    outputs = ["s3://a/captions", "s3://a/captions/", "s3://b/captions", "/data/de"]
    first, again, other, local = (RunLabels.of(output, "caption").run for output in outputs)
    assert first == again != other
    assert re.fullmatch(r"captions-[0-9a-f]{6}", first)
    assert local.startswith("de-")
    in_memory = [f"ray-memory://{name}/out" for name in "ab"]
    assert {RunLabels.of(output, "caption").run for output in in_memory} == {"in-memory"}
