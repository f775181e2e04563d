"""The moderation task: from a row to a request for each policy, and from the answers to columns.

Nothing is sampled: the probability of a violation is the softmax over the logits of "Yes" and "No"
at the first position of the answer (arXiv 2504.01081). A row's requests all begin with the image or
the text and reach the engine one after the other, so that its prefix cache holds that part.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import pyarrow as pa

from jobs.moderation.policies import (
    ANSWER,
    IMAGE_POLICIES,
    IMAGE_PROMPT,
    TEXT_POLICIES,
    TEXT_PROMPT,
    Policy,
    fill,
)
from pipeline import (
    ColumnKind,
    Generation,
    ImageRef,
    Outcome,
    Prepared,
    Request,
    Result,
    RowError,
    Sampling,
    UserError,
)
from pipeline.contract.record import combined_error, worst

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jobs.options.model import Model
    from pipeline.contract.task import Row
    from pipeline.engine.profile import ModelProfile

VERDICTS = ("Yes", "No")
"""Answers for "violated" and "not violated". (The docstring of transformers' ShieldGemma 2 has them
the wrong way round.)"""
SCORED = Sampling(max_tokens=1, score_tokens=VERDICTS)
POLICY_ALONE = "{policy}"
"""The prompt for a model whose chat template adds the words around a policy."""


class Judge(StrEnum):
    """What kind of model judges. Recorded, since the probabilities of two kinds do not compare."""

    SHIELDGEMMA2 = "shieldgemma2"
    """Trained to judge images, mainly by the package's three policies."""
    GEMMA3 = "gemma3"
    """A general model; its probabilities need calibration most."""


@dataclass(frozen=True, kw_only=True)
class ModerationTask:
    """The probabilities that an image or a text violates some policies.

    Attributes:
        policies: The policies; mappings, as in a run's record, become policies.
        judge: What kind of model judges.
        prompt: The prompt, with `{policy}` in it and, for texts, `{text}`.
        image_column: Column with the image, or None.
        text_column: Column with the text, or None. One of the two is given.
    """

    policies: tuple[Policy, ...]
    judge: Judge
    prompt: str
    image_column: str | None = None
    text_column: str | None = None

    name = "moderate"

    def __post_init__(self) -> None:
        restored = (p if isinstance(p, Policy) else Policy(**p) for p in self.policies)
        object.__setattr__(self, "policies", tuple(restored))
        object.__setattr__(self, "judge", Judge(self.judge))
        names = [policy.name for policy in self.policies]
        if not names:
            raise UserError("policies: there is none; give at least one")
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise UserError(f"policies: there are two policies '{twice}'; rename one")
        if (self.image_column is None) == (self.text_column is None):
            raise UserError("moderation: name an image column or a text column, one of the two")
        if self.judge is Judge.SHIELDGEMMA2 and self.text_column is not None:
            raise UserError(
                f"text column '{self.text_column}': ShieldGemma 2 judges images only; use a "
                "Gemma 3 model for texts"
            )
        for name in ("policy",) if self.text_column is None else ("policy", "text"):
            if self.prompt.count(f"{{{name}}}") != 1:
                raise UserError(f"prompt: should have {{{name}}} in it once, where the {name} goes")

    @property
    def columns(self) -> Mapping[str, ColumnKind]:
        """The column with the image or the text."""
        if self.image_column is not None:
            return {self.image_column: ColumnKind.IMAGE}
        assert self.text_column is not None
        return {self.text_column: ColumnKind.TEXT}

    @property
    def result_schema(self) -> pa.Schema:
        """`p_<policy>` for each policy, `flagged` and `labels`."""
        return pa.schema(
            [
                *(pa.field(f"p_{policy.name}", pa.float64()) for policy in self.policies),
                pa.field("flagged", pa.bool_()),
                pa.field("labels", pa.list_(pa.string())),
            ]
        )

    @property
    def settings(self) -> Mapping[str, object]:
        """Everything that decides the results: the task's own fields."""
        return asdict(self)

    def prepare(self, row: Row) -> Prepared:
        """One request for each policy, each with the image or the text first."""
        images: tuple[ImageRef, ...] = ()
        texts: dict[str, str] = {}
        if self.image_column is not None:
            images = (ImageRef(row[self.image_column]),)
        if self.text_column is not None:
            texts = {"text": _require_text(row, self.text_column)}
        prompts = (fill(self.prompt, policy=policy.text, **texts) for policy in self.policies)
        return Prepared(
            tuple(Request(prompt, SCORED, images=images, may_fail=True) for prompt in prompts)
        )

    def result(self, state: object, generations: Sequence[Generation]) -> Result:
        """The probabilities; null for a policy whose request failed.

        `flagged` is null where a request failed and no other policy is violated.
        """
        scores = dict(zip(self.policies, map(_score, generations), strict=True))
        good = {policy: p for policy, p in scores.items() if isinstance(p, float)}
        failures = {policy: p for policy, p in scores.items() if isinstance(p, RowError)}
        labels = [policy.name for policy, p in good.items() if p >= policy.threshold]
        columns = {
            **{f"p_{policy.name}": p for policy, p in good.items()},
            "flagged": True if labels else None if failures else False,
            "labels": labels if good else None,
        }
        outcome = worst(error.outcome for error in failures.values())
        errors = {p.name: str(failures[p]) if p in failures else None for p in self.policies}
        return Result(columns, outcome, combined_error(errors), partial=True)


def moderation_task(
    profile: ModelProfile,
    model: Model,
    *,
    policies: Sequence[Policy] | None = None,
    image_column: str | None = None,
    text_column: str | None = None,
    prompt: str | None = None,
) -> ModerationTask:
    """Build the task for a model.

    Args:
        profile: What the checkpoint's files say about the model.
        model: The prompts and policies it was trained on, if known.
        policies: By default those it was trained on, else ShieldGemma 2's.
        image_column: Column with the images.
        text_column: Column with the texts. One of the two is given.
        prompt: Another prompt, with `{policy}` in it and, for texts, `{text}`.

    Raises:
        UserError: The model cannot judge texts, its chat template takes no prompt, or the prompt
            lacks `{policy}` or `{text}`.
    """
    wraps = profile.wraps_policy
    if wraps and prompt is not None:
        raise UserError(
            "prompt: this model's chat template asks about a policy in words of its own; leave the "
            "prompt out"
        )
    default_policies, default_prompt = TEXT_POLICIES, TEXT_PROMPT
    if text_column is None:
        trained = tuple(Policy(name=name, text=text) for name, text in model.policies.items())
        default_policies = trained or IMAGE_POLICIES
        default_prompt = model.moderation_prompt or IMAGE_PROMPT
    if profile.continues_text:
        default_prompt += ANSWER
    return ModerationTask(
        policies=tuple(policies or default_policies),
        judge=Judge.SHIELDGEMMA2 if profile.is_shieldgemma2 else Judge.GEMMA3,
        prompt=prompt or (POLICY_ALONE if wraps else default_prompt),
        image_column=image_column,
        text_column=text_column,
    )


def probability(log_yes: float, log_no: float) -> float:
    """The probability of "Yes" against "No": their softmax, the same as from the two logits.

    NaN where both are minus infinity, or one is NaN.

    Args:
        log_yes: Natural logarithm of the probability of "Yes".
        log_no: The same for "No".
    """
    smaller = math.exp(-abs(log_yes - log_no))
    return (1.0 if log_yes >= log_no else smaller) / (1.0 + smaller)


def _require_text(row: Row, column: str) -> str:
    text = row[column]
    if text is None:
        raise RowError(Outcome.MISSING_INPUT, "render", f"column '{column}' has no value")
    if not isinstance(text, str):
        raise RowError(Outcome.DECODE_ERROR, "render", f"{type(text).__name__} is not text")
    return text


def _score(generation: Generation) -> float | RowError:
    """The probability of a violation, or why there is none."""
    if generation.failure is not None:
        return generation.failure
    found = probability(*generation.log_probabilities)
    if math.isnan(found):
        return RowError(Outcome.ENGINE_ERROR, "parse", "Yes and No have no probability")
    return found
