"""Moderation: for each policy the probability that an image or a text violates it.

One request a policy. Nothing is sampled: the probability is the softmax over the logits of "Yes"
and "No" at the first position of the answer (arXiv 2504.01081). All requests of a row begin alike,
with the image or the text, and are with the engine next to each other, so that it computes that
once. Which policies there are and what is asked is `policies`'.

(The module is not called `moderate`; see `captions`.)
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import pyarrow as pa

from jobs.moderation.policies import (
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
from pipeline.contract.record import worst

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jobs.options.model import Model
    from pipeline.contract.task import Row
    from pipeline.engine.profile import ModelProfile

VERDICTS = ("Yes", "No")
"""The first says that the policy is violated. (The docstring of transformers' ShieldGemma 2 has
them the wrong way round.)"""
SCORED = Sampling(max_tokens=1, score_tokens=VERDICTS)
POLICY_ALONE = "{policy}"
"""The prompt for a model whose chat template puts its own words around a policy."""


class Judge(StrEnum):
    """What a model is to a policy; recorded with the results, which are not comparable."""

    SHIELDGEMMA2 = "shieldgemma2"
    """Trained to judge images, on the three policies of the package above all."""
    GEMMA3 = "gemma3"
    """A general model that is asked; its probabilities need calibration most."""


@dataclass(frozen=True, kw_only=True)
class ModerationTask:
    """The probabilities that an image or a text violates some policies.

    Attributes:
        policies: Which; mappings, as in a run's record, are taken as well.
        judge: What kind of model judges.
        prompt: What is asked, with `{policy}` in it and, of texts, `{text}`.
        image_column: Where the image is, or None.
        text_column: Where the text is, or None; one of the two is given.
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
        _check_policies(self.policies)
        if (self.image_column is None) == (self.text_column is None):
            raise UserError("moderation: name an image column or a text column, one of the two")
        if self.judge is Judge.SHIELDGEMMA2 and self.text_column is not None:
            raise UserError(
                f"text column '{self.text_column}': ShieldGemma 2 judges images only; use a "
                "Gemma 3 model for texts"
            )
        _check_prompt(self.prompt, ["policy"] if self.text_column is None else ["policy", "text"])

    @property
    def columns(self) -> Mapping[str, ColumnKind]:
        """The image's or the text's."""
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
        """What decides the results: the arguments this task was made with."""
        return asdict(self)

    def prepare(self, row: Row) -> Prepared:
        """One request for each policy, all with the same image or text before it."""
        images: tuple[ImageRef, ...] = ()
        texts: dict[str, str] = {}
        if self.image_column is not None:
            images = (ImageRef(row[self.image_column]),)
        if self.text_column is not None:
            texts = {"text": _checked_text(row[self.text_column])}
        prompts = (fill(self.prompt, policy=policy.text, **texts) for policy in self.policies)
        return Prepared(
            tuple(Request(prompt, SCORED, images=images, may_fail=True) for prompt in prompts)
        )

    def result(self, state: object, generations: Sequence[Generation]) -> Result:
        """The probabilities; null for a policy whose request failed.

        `flagged` is null where none of the others is violated and one that failed may be.
        """
        judged = dict(zip(self.policies, map(_judged, generations), strict=True))
        good = {policy: p for policy, p in judged.items() if isinstance(p, float)}
        failures = {policy: p for policy, p in judged.items() if isinstance(p, RowError)}
        labels = [policy.name for policy, p in good.items() if p >= policy.threshold]
        columns = {
            **{f"p_{policy.name}": p for policy, p in good.items()},
            "flagged": True if labels else None if failures else False,
            "labels": labels if good else None,
        }
        outcome = worst(error.outcome for error in failures.values())
        return Result(columns, outcome, _told(failures, len(judged)), partial=True)


def moderation_task(
    profile: ModelProfile,
    model: Model,
    *,
    policies: Sequence[Policy] | None = None,
    image_column: str | None = None,
    text_column: str | None = None,
    prompt: str | None = None,
) -> ModerationTask:
    """The task for a model: who judges, which policies, and in which words.

    Args:
        profile: What the model is like.
        model: How it is best asked.
        policies: By default those it was trained on, else ShieldGemma 2's.
        image_column: Where the images are.
        text_column: Where the texts are; one of the two is given.
        prompt: Other words, with `{policy}` in them and, of texts, `{text}`.

    Raises:
        UserError: The model cannot judge that, or the words do not fit.
    """
    wraps = profile.wraps_policy
    if wraps and prompt is not None:
        raise UserError(
            "prompt: this model's chat template asks about a policy in words of its own; leave the "
            "prompt out"
        )
    of_texts = text_column is not None
    return ModerationTask(
        policies=tuple(policies or _usual_policies(model, of_texts)),
        judge=Judge.SHIELDGEMMA2 if profile.is_shieldgemma2 else Judge.GEMMA3,
        prompt=prompt or (POLICY_ALONE if wraps else _usual_prompt(model, of_texts)),
        image_column=image_column,
        text_column=text_column,
    )


def probability(log_yes: float, log_no: float) -> float:
    """The softmax of two log-probabilities, for the first; the same as of the two logits.

    NaN where both are minus infinity, or one is NaN.
    """
    smaller = math.exp(-abs(log_yes - log_no))
    return (1.0 if log_yes >= log_no else smaller) / (1.0 + smaller)


def _usual_policies(model: Model, of_texts: bool) -> Sequence[Policy]:
    if of_texts:
        return TEXT_POLICIES
    own = [Policy(name=name, text=text) for name, text in model.policies.items()]
    return own or IMAGE_POLICIES


def _usual_prompt(model: Model, of_texts: bool) -> str:
    return TEXT_PROMPT if of_texts else model.moderation_prompt or IMAGE_PROMPT


def _check_policies(policies: Sequence[Policy]) -> None:
    names = [policy.name for policy in policies]
    if not names:
        raise UserError("policies: there is none; give at least one")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"policies: there are two policies '{twice}'; rename one")


def _check_prompt(prompt: str, names: Sequence[str]) -> None:
    for name in names:
        if prompt.count(f"{{{name}}}") != 1:
            raise UserError(f"prompt: should have {{{name}}} in it once, where the {name} goes")


def _checked_text(text: object) -> str:
    if text is None:
        raise RowError(Outcome.MISSING_INPUT, "render", "the text is null")
    if not isinstance(text, str):
        raise RowError(Outcome.DECODE_ERROR, "render", f"{type(text).__name__} is not a text")
    return text


def _judged(generation: Generation) -> float | RowError:
    if generation.failure is not None:
        return generation.failure
    found = probability(*generation.log_probabilities)
    if math.isnan(found):
        return RowError(Outcome.ENGINE_ERROR, "parse", "Yes and No have no probability")
    return found


def _told(failures: Mapping[Policy, RowError], asked: int) -> str | None:
    """What went wrong, once where it is the same for all: the image cannot be had, say."""
    errors = {str(error) for error in failures.values()}
    if len(failures) == asked and len(errors) == 1:
        return errors.pop()
    told = (f"{policy.name}: {error}" for policy, error in failures.items())
    return "; ".join(told) or None
