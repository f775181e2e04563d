"""A user's own prompt, with columns of the row in it: `Describe {title}`.

A prompt may hold names of columns in braces, and `{{` and `}}` for braces. A column's value is
inserted as text and not parsed again, so braces in it are kept.
"""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Any

from pipeline import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping


def columns_in(prompt: str) -> tuple[str, ...]:
    """The columns that a prompt names, each once, in order.

    Raises:
        UserError: A brace is not closed, or braces hold anything but a name.
    """
    try:
        parts = [*string.Formatter().parse(prompt)]
    except ValueError as error:
        raise UserError(f"prompt: {error}; write {{{{ and }}}} for braces") from None
    for _, name, form, conversion in parts:
        if name is not None and (not name.strip() or form or conversion):
            raise UserError(f"prompt: '{{{name}}}' names no column; write {{{{ and }}}} for braces")
    return tuple(dict.fromkeys(name for _, name, _, _ in parts if name is not None))


def fill_columns(prompt: str, row: Mapping[str, Any]) -> str:
    """Insert the row's values into the prompt; a null becomes empty text."""
    text = ""
    for literal, name, _, _ in string.Formatter().parse(prompt):
        value = row[name] if name is not None else None
        text += literal + ("" if value is None else str(value))
    return text
