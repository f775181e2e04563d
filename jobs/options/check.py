"""Checks options from the command line, a job file or Python, and reports a fault in one line.

The message about an unknown name suggests the nearest known one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from jobs.options.common import JobOptions
from pipeline import UserError
from pipeline.contract.config import describe_fault
from pipeline.contract.suggest import suggestion

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pipeline.storage.location import StorageOptions

MOST_LISTED = 20
"""Names that are listed beside the one that was probably meant."""
Options = TypeVar("Options", bound=JobOptions)


class OptionError(UserError):
    """An option that is unknown, missing, or has a wrong value.

    Args:
        option: Its name.
        message: One line about the fault; it names the option.
    """

    def __init__(self, option: str, message: str) -> None:
        super().__init__(message)
        self.option = option


def check_options(model: type[Options], values: Mapping[str, Any]) -> Options:
    """Turn names and values into a job's options.

    Raises:
        OptionError: For the first option that is unknown, missing or wrong.
    """
    for name in values:
        if name not in model.model_fields:
            raise OptionError(name, f"{name}: {unknown(name, model.model_fields, 'option')}")
    try:
        return model(**values)
    except ValidationError as error:
        fault, told = error.errors()[0], describe_fault(error)
        # What is wrong with options together has no place; its message begins with the first.
        name = str(fault["loc"][0]) if fault["loc"] else told.partition(":")[0]
        if fault["type"] == "missing":
            raise OptionError(name, f"{name}: is missing") from None
        raise OptionError(name, told) from None


def check_storage_options(text: str | None) -> StorageOptions:
    """Storage options that are given without a job.

    Raises:
        OptionError: They are wrong.
    """
    given = {} if text is None else {"storage_options": text}
    return check_options(JobOptions, {"model": "any", **given}).storage_options


def unknown(name: str, known: Iterable[str], what: str) -> str:
    """What to say about a name that does not exist.

    Args:
        name: What the user wrote.
        known: The names that exist.
        what: What they name, in the singular.
    """
    names = [*known]
    guess = suggestion(name, names)
    if guess and len(names) > MOST_LISTED:
        return f"there is no such {what}; {guess}".strip()
    return f"there is no such {what}; {guess}choose from {', '.join(names)}"
