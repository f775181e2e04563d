"""Types of option values that can be written as text, as on a command line.

`Names` is a list (`de,fr`), `Numbers` a mapping to numbers (`violence=0.3`); `listed` and `mapped`
parse the text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator, Field


def listed(value: object) -> object:
    """Split `de,fr` into a list; a list stays as it is.

    Raises:
        ValueError: It is neither text nor a list.
    """
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list | tuple):
        raise ValueError("should be names with commas between them, or a list of names")
    return value


def mapped(value: object) -> object:
    """Parse `a=1,b=2` or JSON into a mapping; what is not text stays as it is.

    Raises:
        ValueError: The text is neither.
    """
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("{"):
        try:
            return json.loads(value)
        except ValueError as error:
            raise ValueError(f"is not JSON: {error}") from None
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
"""A list of names, or text with commas between them."""
Number = Annotated[float, Field(strict=True)]
"""Strict: pydantic would otherwise read `yes` as 1."""
Numbers = Annotated[Mapping[str, Number], BeforeValidator(mapped)]
"""A mapping to numbers, or the text `NAME=NUMBER,...`."""
