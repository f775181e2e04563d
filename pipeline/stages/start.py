"""Starting what an actor holds, without the actor dying where that fails.

An actor whose constructor raises makes Ray print the traceback and try again (2.60). So the failure
is kept, and told with the first block that the actor is given.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from pipeline.errors import RunError, one_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.config import EngineConfig

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Started(Generic[T]):
    """What was made, or why it was not.

    Attributes:
        made: The object; None where it could not be made.
        fault: What to tell then.
    """

    made: T | None
    fault: str = ""

    def get(self) -> T:
        """The object. Raises RunError where there is none."""
        if self.made is None:
            raise RunError(self.fault)
        return self.made


def attempt(make: Callable[[EngineConfig], T], config: EngineConfig, what: str) -> Started[T]:
    """Make something; `what` names it in the message of a failure."""
    try:
        return Started(make(config))
    except Exception as error:
        logging.getLogger(__name__).exception("%s did not start", what)
        return Started(None, f"{what} did not start: {one_line(error)}")
