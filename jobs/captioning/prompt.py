"""A user's own prompt, with columns of the row in it: `Describe {title}`.

Decides what a prompt may hold: names of columns in braces, and `{{` and `}}` for braces. What a
column holds is put in as text and never read again, so braces and control strings in it are text.
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
        UserError: A brace is open, or there is more than a name within braces.
    """
    try:
        parts = [*string.Formatter().parse(prompt)]
    except ValueError as error:
        raise UserError(f"prompt: {error}; write {{{{ and }}}} for braces") from None
    for _, name, form, conversion in parts:
        if name is not None and (not name.strip() or form or conversion):
            raise UserError(f"prompt: '{{{name}}}' names no column; write {{{{ and }}}} for braces")
    return tuple(dict.fromkeys(name for _, name, _, _ in parts if name is not None))


def filled(prompt: str, row: Mapping[str, Any]) -> str:
    """The prompt with the row's values; nothing stands for a null."""
    text = ""
    for literal, name, _, _ in string.Formatter().parse(prompt):
        value = row[name] if name is not None else None
        text += literal + ("" if value is None else str(value))
    return text
