"""From names and values, wherever a user wrote them, to a job's options, or a line about a fault.

A name that there is not is told with the nearest one that there is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from jobs.options.common import JobOptions
from pipeline import UserError
from pipeline.contract.config import describe_fault
from pipeline.contract.suggest import suggestion

if TYPE_CHECKING:
    from collections.abc import Mapping

Options = TypeVar("Options", bound=JobOptions)


class OptionError(UserError):
    """An option that there is not, that is missing, or that has a wrong value.

    Args:
        option: Its name.
        message: One line about it, with its name.
    """

    def __init__(self, option: str, message: str) -> None:
        super().__init__(message)
        self.option = option


def check_options(model: type[Options], values: Mapping[str, Any]) -> Options:
    """The options of a job. Raises OptionError for the first that is wrong."""
    for name in values:
        if name not in model.model_fields:
            raise OptionError(name, unknown_option(name, model.model_fields))
    try:
        return model(**values)
    except ValidationError as error:
        fault = error.errors()[0]
        name = str(fault["loc"][0])
        if fault["type"] == "missing":
            raise OptionError(name, f"{name}: is missing") from None
        raise OptionError(name, describe_fault(error)) from None


def unknown_option(name: str, known: Mapping[str, Any] | list[str]) -> str:
    """The line about an option that there is not."""
    return f"{name}: there is no such option; {suggestion(name, known)}they are {', '.join(known)}"
