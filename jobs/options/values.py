"""How an option's value may be written as text: on a command line, or in a variable of a job file.

`Names` are lists (`de,fr`), `Numbers` mappings to numbers (`violence=0.3`). `listed` and `mapped`
are what they are read with.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator, Field


def listed(value: object) -> object:
    """`de,fr` as a list; a list as it is. Raises ValueError for anything else."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list | tuple):
        raise ValueError("should be names with commas between them, or a list of names")
    return value


def mapped(value: object) -> object:
    """`a=1,b=2` or JSON as a mapping; all else as it is. Raises ValueError for other text."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("{"):
        return json.loads(value)
    pairs = [part.partition("=") for part in value.split(",")]
    if not all(equals for _, equals, _ in pairs):
        raise ValueError("should be NAME=VALUE,... or a JSON object")
    return {name.strip(): _scalar(text.strip()) for name, _, text in pairs}


def _scalar(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


Names = Annotated[tuple[str, ...], BeforeValidator(listed)]
"""A list of names; as text, with commas between them."""
Number = Annotated[float, Field(strict=True)]
"""No `yes` or `no`, which would be 1 or 0."""
Numbers = Annotated[Mapping[str, Number], BeforeValidator(mapped)]
"""A mapping to numbers; as text, `NAME=NUMBER,...`."""
