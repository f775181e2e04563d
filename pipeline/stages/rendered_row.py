"""A row between rendering and parsing: what it asks the engine, and has asked before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.contract.errors import RowError

if TYPE_CHECKING:
    from pipeline.contract.task import Generation
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
