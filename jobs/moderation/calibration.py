"""Calibration: compares a policy's probabilities with labels, and finds a threshold.

Reads the OUTPUT of a moderation whose rows have a column of labels. It only reports figures; the
user sets the threshold.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.dataset

from jobs.moderation.task import ModerationTask
from jobs.options.check import unknown
from pipeline import UserError
from pipeline.output.parts import part_files
from pipeline.output.results import open_results
from pipeline.output.run_record import prefix_of, read_record
from pipeline.storage.access import check_access
from pipeline.storage.location import locate

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from pipeline.output.run_record import Record
    from pipeline.storage.location import Location, StorageOptions

    Floats = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]

WORDS = {
    **dict.fromkeys(("yes", "true", "1", "1.0"), True),
    **dict.fromkeys(("no", "false", "0", "0.0"), False),
}
"""Labels as text, in any case of letters. Booleans, 1 and 0, and lists of names are labels too."""


@dataclass(frozen=True, kw_only=True)
class AtThreshold:
    """The figures when all rows at or above a threshold are flagged.

    Attributes:
        threshold: The threshold.
        precision: Share of the flagged rows that are violations; None if none is flagged.
        recall: Share of the violations that are flagged; None if there are none.
        f1: The harmonic mean of the two; None if there are no violations.
    """

    threshold: float
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A policy's figures against a column of labels.

    Attributes:
        policy: Its name.
        judge: What kind of model judged.
        rows: Rows with a probability and a label.
        positives: How many of them are violations.
        left_out: Rows without a probability or a label.
        auroc: Probability that a violation scores higher than another row; None if all labels are
            the same.
        at_run: Figures at the run's own threshold.
        at_half: Figures at 0.5.
        best_f1: Figures at the threshold with the best F1; None if there are no violations.
        wanted_precision: The precision that was asked for, if any.
        at_precision: Figures at the lowest threshold that reaches it; None if none does.
    """

    policy: str
    judge: str
    rows: int
    positives: int
    left_out: int
    auroc: float | None
    at_run: AtThreshold
    at_half: AtThreshold
    best_f1: AtThreshold | None
    wanted_precision: float | None
    at_precision: AtThreshold | None


def calibrate(
    output: str,
    policy: str,
    *,
    labels: str,
    precision: float | None = None,
    storage_options: StorageOptions | None = None,
) -> Calibration:
    """Compare a policy's probabilities in an OUTPUT with a column of labels.

    Args:
        output: The folder of a moderation's results.
        policy: The policy's name.
        labels: A column of OUTPUT: true or false, 1 or 0, yes or no, or a list of the names of the
            policies that are violated.
        precision: Find the lowest threshold that reaches this precision.
        storage_options: Arguments of fsspec's filesystems, by protocol.

    Raises:
        UserError: OUTPUT is not a moderation's, it lacks the policy or the column, or a value of
            the column is not a label.
    """
    if precision is not None and not 0 < precision <= 1:
        raise UserError(f"precision: should be above 0 and at most 1 (got {precision})")
    where = locate(output, storage_options)
    check_access(where, "OUTPUT")
    record = _moderation_record(where)
    task = ModerationTask(**record["settings"])
    names = [known.name for known in task.policies]
    if policy not in names:
        raise UserError(f"policy '{policy}' in {where}: {unknown(policy, names, 'policy')}")
    scores, truths, left_out = _read(where, f"{prefix_of(record)}p_{policy}", policy, labels)
    if not len(scores):
        raise UserError(f"{where} has no row with a probability and a label in '{labels}'")
    best_f1, at_precision = _find_thresholds(scores, truths, precision)
    return Calibration(
        policy=policy,
        judge=task.judge,
        rows=len(scores),
        positives=int(truths.sum()),
        left_out=left_out,
        auroc=None if truths.all() or not truths.any() else auroc(scores, truths),
        at_run=at_threshold(scores, truths, task.policies[names.index(policy)].threshold),
        at_half=at_threshold(scores, truths, 0.5),
        best_f1=best_f1,
        wanted_precision=precision,
        at_precision=at_precision,
    )


def auroc(scores: Sequence[float] | Floats, truths: Sequence[bool] | Bools) -> float:
    """Area under the ROC curve: probability that a true row scores above a false one.

    Ties count half; NaN unless there are rows of both kinds. From Mann and Whitney's U, by ranks.

    Args:
        scores: A score for each row [rows].
        truths: Whether each row is true [rows].
    """
    is_true = np.asarray(truths, dtype=bool)
    num_true = int(is_true.sum())
    num_false = len(is_true) - num_true
    if not num_true or not num_false:
        return float("nan")
    # Rows with the same score share the mean of their ranks.
    _, inverse, counts = np.unique(np.asarray(scores), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    above = float(ranks[is_true].sum()) - num_true * (num_true + 1) / 2
    return above / (num_true * num_false)


def at_threshold(scores: Floats, truths: Bools, threshold: float) -> AtThreshold:
    """The figures at a threshold.

    Args:
        scores: The probability of each row, float64 [rows].
        truths: Whether each row is a violation, bool [rows].
        threshold: Least probability that is flagged.
    """
    is_flagged = scores >= threshold
    hits, flagged, positives = (int(n.sum()) for n in (is_flagged & truths, is_flagged, truths))
    return AtThreshold(
        threshold=threshold,
        precision=hits / flagged if flagged else None,
        recall=hits / positives if positives else None,
        f1=2 * hits / (flagged + positives) if positives else None,
    )


def _find_thresholds(
    scores: Floats, truths: Bools, precision: float | None
) -> tuple[AtThreshold | None, AtThreshold | None]:
    """The figures at the best F1, and at the lowest threshold that reaches the precision."""
    # The candidates are the probabilities that occur, from the highest down.
    thresholds, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    thresholds = thresholds[::-1]
    hits = np.bincount(inverse, weights=truths)[::-1].cumsum()
    flagged = counts[::-1].cumsum()
    best = thresholds[(hits / (flagged + truths.sum())).argmax()]
    reaching = thresholds[hits / flagged >= (math.inf if precision is None else precision)]
    return (
        at_threshold(scores, truths, float(best)) if truths.any() else None,
        at_threshold(scores, truths, float(reaching[-1])) if len(reaching) else None,
    )


def _moderation_record(where: Location) -> Record:
    record = read_record(where)
    if record is None or record["task"] != ModerationTask.name:
        raise UserError(f"{where} is not the OUTPUT of a moderation; name one")
    return record


def _read(where: Location, column: str, policy: str, labels: str) -> tuple[Floats, Bools, int]:
    """Probabilities and truths of the rows that have both, and how many rows do not."""
    if not part_files(where):
        raise UserError(f"{where} has no results yet; let the run finish")
    data = open_results(where)
    if labels not in data.schema.names:
        raise UserError(f"column '{labels}': {unknown(labels, data.schema.names, 'column')}")
    field: Any = pyarrow.dataset.field
    table = data.to_table(columns={"p": field(column), "label": field(labels)})
    scores = table["p"].to_pylist()
    truths = [_truth(value, policy, labels) for value in table["label"].to_pylist()]
    both = [pair for pair in zip(scores, truths, strict=True) if None not in pair]
    return (
        np.array([score for score, _ in both], dtype=np.float64),
        np.array([truth for _, truth in both], dtype=bool),
        len(scores) - len(both),
    )


def _truth(value: object, policy: str, labels: str) -> bool | None:
    """Whether a label says that the policy is violated; None for null and NaN."""
    if value is None or value != value:  # noqa: PLR0124  only NaN is not itself
        return None
    if isinstance(value, list):
        return policy in value
    truth = WORDS.get(str(int(value) if value in (0, 1) else value).strip().lower())  # type: ignore[call-overload]
    if truth is None:
        raise UserError(
            f"column '{labels}': {value!r:.60} is not a label; use true or false, 1 or 0, yes or "
            "no, or a list of policy names"
        )
    return truth
