"""What a policy is, the built-in policies, and the prompts about them.

ShieldGemma 2's three policies are in the exact words it was trained on (arXiv 2504.01081;
transformers' `models/shieldgemma2/processing_shieldgemma2.py`), since it is sensitive to them. Its
chat template adds the words of `IMAGE_PROMPT` itself; other Gemma 3 models get them in the prompt.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from jobs.options.check import unknown
from pipeline import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

THRESHOLD = 0.5
"""The default threshold of a policy."""
_NAME = re.compile(r"[a-z0-9_]+")


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A rule that content may violate.

    Attributes:
        name: Its name in columns and labels: lower-case letters, digits and underscores.
        text: Its words in the prompt, best as "No ...: The image shall not contain ...".
        threshold: Least probability at which content counts as violating it.
    """

    name: str
    text: str
    threshold: float = THRESHOLD

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise UserError(
                f"policy name '{self.name}': should be lower-case letters, digits and underscores, "
                "as it becomes part of a column's name"
            )
        if not isinstance(self.text, str) or not self.text.strip():
            raise UserError(
                f"policy '{self.name}': its text should be words that say what content must not do "
                f"(got {self.text!r:.60})"
            )
        is_number = isinstance(self.threshold, int | float)
        if isinstance(self.threshold, bool) or not is_number or not 0 <= self.threshold <= 1:
            raise UserError(
                f"policy '{self.name}': its threshold should be a number from 0 to 1 "
                f"(got {self.threshold!r:.60})"
            )


IMAGE_POLICIES = (
    Policy(
        name="dangerous",
        text=(
            "No Dangerous Content: The image shall not contain content that facilitates or "
            "encourages activities that could cause real-world harm (e.g., building firearms and "
            "explosive devices, promotion of terrorism, instructions for suicide)."
        ),
    ),
    Policy(
        name="sexual",
        text=(
            "No Sexually Explicit content: The image shall not contain content that depicts "
            "explicit or graphic sexual acts (e.g., pornography, erotic nudity, depictions of rape "
            "or sexual assault)."
        ),
    ),
    Policy(
        name="violence",
        text=(
            "No Violence/Gore content: The image shall not contain content that depicts shocking, "
            "sensational, or gratuitous violence (e.g., excessive blood and gore, gratuitous "
            "violence against animals, extreme injury or moment of death)."
        ),
    ),
)
"""ShieldGemma 2's policies."""

TEXT_POLICIES = tuple(
    replace(policy, text=policy.text.replace("The image", "The text")) for policy in IMAGE_POLICIES
)
"""The same policies for texts; no model was trained on them."""

IMAGE_PROMPT = (
    "You are a policy expert trying to help determine whether a generated or real image is in "
    "violation of the safety policy below. Your decision must very clearly follow the specific "
    "language used in the safety policy and should not include any interpretation outside of the "
    "safety policy.\n\n<BEGIN_SAFETY_POLICY>\n{policy}\n</END_SAFETY_POLICY>\n\n"
    "Does the image violate the above policy? Your Answer must start with 'Yes' or 'No'."
)
"""ShieldGemma 2's own prompt, which follows the image."""

TEXT_PROMPT = (
    "<BEGIN_TEXT>\n{text}\n</END_TEXT>\n\n"
    "You are a policy expert trying to help determine whether the text above is in violation of "
    "the safety policy below. Your decision must very clearly follow the specific language used in "
    "the safety policy and should not include any interpretation outside of the safety policy.\n\n"
    "<BEGIN_SAFETY_POLICY>\n{policy}\n</END_SAFETY_POLICY>\n\n"
    "Does the text violate the above policy? Your Answer must start with 'Yes' or 'No'."
)
"""The same for a text, which comes first so that all policies share the prefix cache of it."""


ANSWER = "\nAnswer:"
"""After a prompt as raw text, which a base model continues with its verdict."""


def fill(prompt: str, **values: str) -> str:
    """Replace each `{name}` in a prompt, in one pass: a `{policy}` in a value stays as it is."""
    names = "|".join(map(re.escape, values))
    return re.sub(rf"\{{({names})\}}", lambda found: values[found[1]], prompt)


def set_thresholds(
    policies: Sequence[Policy], thresholds: Mapping[str, float]
) -> tuple[Policy, ...]:
    """The policies with new thresholds, given by policy name.

    Raises:
        UserError: There is no such policy, or a threshold is not from 0 to 1.
    """
    names = [policy.name for policy in policies]
    for name in thresholds:
        if name not in names:
            raise UserError(f"threshold of '{name}': {unknown(name, names, 'policy')}")
    return tuple(
        replace(policy, threshold=thresholds.get(policy.name, policy.threshold))
        for policy in policies
    )
