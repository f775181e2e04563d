"""How a model is best asked, where that is not as all models are.

Which names stand for a model is the registry's; whether a folder holds one that can run is checked
by the pipeline.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.contract.config import Dtype


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model and how it is best asked.

    Attributes:
        path: The checkpoint's folder.
        dtype: What to run it in, unless the user says otherwise.
        caption_prompt: What to ask for a caption; None for the usual styles.
        moderation_prompt: What to ask about an image and a `{policy}`; None for the usual words.
        policies: Policies about images that it was trained on, by name; none for the usual ones.
    """

    path: str
    dtype: Dtype = "auto"
    caption_prompt: str | None = None
    moderation_prompt: str | None = None
    policies: Mapping[str, str] = field(default_factory=dict)
