"""A model's folder, and prompts that suit only this model.

`jobs.registry` finds the model of a name; the pipeline checks whether its folder can be run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.contract.config import Dtype


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model and the prompts it was trained on.

    Attributes:
        path: The checkpoint's folder.
        dtype: Number format to compute in, unless the user sets one.
        caption_prompt: Its prompt for a caption; None for the built-in styles.
        moderation_prompt: Its prompt about an image, with `{policy}`; None for the usual one.
        policies: Texts of its image policies by name; empty for the usual ones.
    """

    path: str
    dtype: Dtype = "auto"
    caption_prompt: str | None = None
    moderation_prompt: str | None = None
    policies: Mapping[str, str] = field(default_factory=dict)
