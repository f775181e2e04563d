"""What the name after `--model` means: a folder, or `demo`, the model that comes with the package.

Whether a folder holds a model that can run is checked by the pipeline.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

from jobs.moderation.policies import Policy

if TYPE_CHECKING:
    from pipeline.contract.config import Dtype

DEMO = "demo"


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model and how it is best asked.

    Attributes:
        path: The checkpoint's folder.
        dtype: What to run it in, unless the user says otherwise.
        caption_prompt: What to ask for a caption, where it is not what all models are asked.
        moderation_prompt: What to ask about an image and a `{policy}`; None for the usual words.
        policies: Those about images it was trained on, where they are its own.
    """

    path: str
    dtype: Dtype
    caption_prompt: str | None = None
    moderation_prompt: str | None = None
    policies: tuple[Policy, ...] = ()


def find_model(name: str) -> Model:
    """The model of that name: `demo`, or a folder."""
    if name == DEMO:
        return _demo()
    return Model(path=name, dtype="auto")


def _demo() -> Model:
    from jobs.demo.phrases import CAPTION_PROMPT, MODERATION_PROMPT, POLICIES

    return Model(
        path=str(files("jobs.demo") / "checkpoint"),
        dtype="float32",  # `auto` would run it in bfloat16, with fewer exact answers
        caption_prompt=CAPTION_PROMPT,
        moderation_prompt=MODERATION_PROMPT,
        policies=tuple(Policy(name=policy.name, text=policy.text) for policy in POLICIES),
    )
