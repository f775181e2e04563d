"""The options of every job that has the model write text.

They say what ends an answer, which tokens it avoids, and what is done with what was written. A job
declares them with these types, so that they are the same everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def stops(value: object) -> object:
    """Texts that end an answer: one as it is, several as a list or as JSON.

    Raises:
        ValueError: One of them is empty, or it is neither text nor a list.
    """
    if isinstance(value, str):
        value = json.loads(value) if _is_json_list(value) else [value]
    if not isinstance(value, list | tuple):
        raise ValueError('should be a text, or several as a list: ["END", "\\n"]')
    if not all(value):
        raise ValueError("has an empty text, which would end every answer; leave it out")
    return value


def _is_json_list(text: str) -> bool:
    try:
        return isinstance(json.loads(text), list)
    except ValueError:
        return False


Stop = Annotated[
    tuple[str, ...],
    BeforeValidator(stops),
    Field(description="Text that ends an answer and is left out; several as a JSON list."),
]
PresencePenalty = Annotated[
    float,
    Field(ge=-2, le=2, description="Above 0: less likely tokens that the answer has; -2 to 2."),
]
FrequencyPenalty = Annotated[
    float,
    Field(ge=-2, le=2, description="The same, by how often the answer has them; -2 to 2."),
]
RepetitionPenalty = Annotated[
    float,
    Field(
        gt=0,
        allow_inf_nan=False,
        description="Above 1: less likely tokens that the prompt or the answer has.",
    ),
]
Clean = Annotated[
    bool,
    Field(
        description=(
            "Cut what an answer has around it (Here is a caption:, quotes, a fence); a column with "
            "_raw has what was written, where that differs."
        )
    ),
]
Quality = Annotated[
    bool,
    Field(
        description=(
            "Add a column with _quality: how probable the model found the answer, as the mean of "
            "its tokens' natural logarithms (0 is best)."
        )
    ),
]
WRITING = (
    "stop",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "clean",
    "quality",
)
"""The names of these options, also as fields of a task."""


def recorded(task: DataclassInstance, later: Collection[str]) -> Mapping[str, Any]:
    """A task's fields as its settings.

    Args:
        task: The task.
        later: Fields that are left out where they have their default: runs that began before there
            were such fields, and record none, can be continued.
    """
    defaults = {field.name: field.default for field in fields(task) if field.name in later}
    return {
        name: value
        for name, value in asdict(task).items()
        if name not in defaults or value != defaults[name]
    }
