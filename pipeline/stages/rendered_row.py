"""A row between rendering and parsing: what it asks the engine, and has asked before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.contract.errors import RowError, one_line
from pipeline.contract.record import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.contract.task import Generation, Request
    from pipeline.engine.interface import Rendered


@dataclass(frozen=True)
class RenderedRow:
    """A row after rendering.

    Attributes:
        requests: Each rendered, or why it could not be (if it may fail).
        state: What the task wants back with the answers.
        asked: Its earlier requests, where these are follow-ups to them.
        answers: The answers to them.
    """

    requests: tuple[Rendered | RowError, ...]
    state: object
    asked: tuple[Rendered | RowError, ...] = ()
    answers: tuple[Generation, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes of its images, which its requests share."""
        return max((r.nbytes for r in self.requests if not isinstance(r, RowError)), default=0)


def rendered_or_failed(
    request: Request, render: Callable[[Request], Rendered]
) -> Rendered | RowError:
    """A request rendered; or why it cannot be, where that leaves its row intact.

    Raises:
        Exception: It cannot be, and its row fails with it.
    """
    try:
        return render(request)
    except RowError as error:
        if request.may_fail:
            return error
        raise
    except Exception as error:  # for example, a template that does not know the language
        if request.may_fail:
            return RowError(Outcome.DECODE_ERROR, "render", one_line(error))
        raise
