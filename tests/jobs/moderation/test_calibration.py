"""Calibration on an OUTPUT as a run writes it."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.cli.tables import calibration_table
from jobs.moderation.calibration import AtThreshold, Calibration, auroc, calibrate
from jobs.moderation.policies import IMAGE_PROMPT, Policy
from jobs.moderation.task import ModerationTask
from pipeline import UserError
from pipeline.storage.location import INTERNAL

SCORES = [0.9, 0.8, 0.8, 0.6, 0.4, 0.1, None, 0.7]
TRUTHS = [True, True, False, True, False, False, True, None]
TASK = ModerationTask(
    policies=(Policy(name="red", text="No red", threshold=0.7), Policy(name="blue", text="No")),
    judge="gemma3",  # type: ignore[arg-type]  # as a record has it
    prompt=IMAGE_PROMPT,
    image_column="image",
)


def output(folder: Path, labels: Sequence[object], name: str = "moderate", prefix: str = "") -> str:
    """Two parts and a record."""
    columns = {f"{prefix}p_red": pa.array(SCORES, pa.float64()), "truth": pa.array(labels)}
    table = pa.table(columns)
    pq.write_table(table[:3], folder / "part-00000000-a.parquet")
    pq.write_table(table[3:], folder / "part-00000001-b.parquet")
    (folder / INTERNAL).mkdir()
    record: dict[str, object] = {"task": name, "settings": dict(TASK.settings)}
    if prefix:
        record["config"] = {"prefix": prefix}
    (folder / INTERNAL / "run.json").write_text(json.dumps(record))
    return str(folder)


def test_auroc_is_the_share_of_pairs_in_order() -> None:
    truths = [True, True, False, False]
    assert auroc([0.9, 0.8, 0.2, 0.1], truths) == 1.0
    assert auroc([0.9, 0.1, 0.5, 0.1], truths) == pytest.approx(2.5 / 4)
    orders = itertools.permutations([0.1, 0.2, 0.3, 0.4])
    values = [auroc(order, truths) for order in orders]
    assert sum(values) / len(values) == pytest.approx(0.5)
    assert math.isnan(auroc([0.1, 0.2], [True, True]))


@pytest.mark.parametrize(
    "kind",
    [
        lambda truth: truth,
        int,
        float,
        lambda truth: "Yes" if truth else "no",
        lambda truth: "TRUE" if truth else "false",
        lambda truth: ["blue", "red"] if truth else ["blue"],
    ],
)
def test_figures_against_labels_of_every_kind(tmp_path: Path, kind: Any) -> None:
    labels = [None if truth is None else kind(truth) for truth in TRUTHS]
    found = calibrate(output(tmp_path, labels), "red", labels="truth", precision=0.75)
    assert (found.rows, found.positives, found.left_out) == (6, 3, 2)
    assert found.judge == "gemma3"
    assert found.auroc == pytest.approx(7.5 / 9)
    at_run = found.at_run
    assert (at_run.threshold, at_run.precision, at_run.recall) == (0.7, 2 / 3, 2 / 3)
    assert found.at_half.precision == 3 / 4
    assert (found.at_half.recall, found.at_half.f1) == (1, pytest.approx(6 / 7))
    assert found.best_f1 is not None
    assert (found.best_f1.threshold, found.best_f1.f1) == (0.6, pytest.approx(6 / 7))
    # At 0.8 it is 2 in 3: the lowest threshold that reaches it lies below one that does not.
    assert found.at_precision is not None
    assert (found.at_precision.threshold, found.at_precision.recall) == (0.6, 1)


def test_a_precision_that_nothing_reaches(tmp_path: Path) -> None:
    labels = [not truth for truth in TRUTHS[:6]] + [None, None]
    found = calibrate(output(tmp_path, labels), "red", labels="truth", precision=0.9)
    assert found.at_precision is None
    assert found.best_f1 is not None


def test_labels_that_are_all_the_same(tmp_path: Path) -> None:
    found = calibrate(output(tmp_path, [False] * 8), "red", labels="truth")
    assert (found.auroc, found.best_f1, found.positives) == (None, None, 0)
    assert (found.at_run.precision, found.at_run.recall, found.at_run.f1) == (0, None, None)


def test_labels_may_be_numbers_as_text_and_missing_as_in_pandas(tmp_path: Path) -> None:
    for labels in (["1.0", "0.0"] * 3 + [None] * 2, [1.0, 0.0] * 3 + [math.nan] * 2):
        folder = tmp_path / type(labels[0]).__name__
        folder.mkdir()
        found = calibrate(output(folder, labels), "red", labels="truth")
        assert (found.positives, found.left_out) == (3, 2)


def test_columns_may_have_a_prefix(tmp_path: Path) -> None:
    found = calibrate(output(tmp_path, TRUTHS, prefix="gemma_"), "red", labels="truth")
    assert (found.rows, found.positives) == (6, 3)


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("a", "b", "c", "d")]
    for folder in folders:
        folder.mkdir()
    out = output(folders[0], ["maybe"] * 8)
    with pytest.raises(UserError, match=r"policy 'rod' in .*did you mean 'red'\?"):
        calibrate(out, "rod", labels="truth")
    with pytest.raises(UserError, match=r"column 'trith': .*did you mean 'truth'\?"):
        calibrate(out, "red", labels="trith")
    with pytest.raises(UserError, match="'maybe' is not a label; use true or false"):
        calibrate(out, "red", labels="truth")
    with pytest.raises(UserError, match="precision: should be above 0"):
        calibrate(out, "red", labels="truth", precision=75)
    other = output(folders[1], TRUTHS, name="caption")
    with pytest.raises(UserError, match="is not the OUTPUT of a moderation"):
        calibrate(other, "red", labels="truth")
    with pytest.raises(UserError, match="is not the OUTPUT of a moderation"):
        calibrate(str(folders[2]), "red", labels="truth")
    unlabelled = output(folders[3], pa.nulls(8, pa.bool_()))
    with pytest.raises(UserError, match="no row with a probability and a label in 'truth'"):
        calibrate(unlabelled, "red", labels="truth")


def test_thresholds_are_shown_in_full() -> None:
    line = AtThreshold(threshold=0.99997, precision=1.0, recall=1.0, f1=1.0)
    found = Calibration(
        policy="red", judge="gemma3", rows=2, positives=1, left_out=0, auroc=1.0,
        at_run=line, at_half=line, best_f1=line, wanted_precision=None, at_precision=None,
    )  # fmt: skip
    assert [*calibration_table(found).columns[0].cells] == ["0.99997"] * 3
