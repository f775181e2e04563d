"""Decides what a shell completes as the value of an option that has a few known ones.

Choices (`Literal`) are completed by typer itself. An option that takes text, and checks it later,
names its values in its field: `json_schema_extra={"values": [...]}`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pipeline import Outcome

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

Completed = Callable[[str], list[str]]
"""The values that begin with what was typed so far."""


def completing(values: Sequence[str]) -> Completed:
    """Complete to one of these values."""

    def completed(incomplete: str) -> list[str]:
        return [value for value in values if value.startswith(incomplete)]

    return completed


def completing_field(field: FieldInfo) -> Completed | None:
    """Complete to a value that the option's field names; None where it names none."""
    extra = field.json_schema_extra
    values = extra.get("values") if isinstance(extra, dict) else None
    return completing([str(value) for value in values]) if isinstance(values, list) else None


OUTCOMES = completing([*Outcome])
