"""Where the logs of a run's engines are, and which errors name them.

What vLLM and the actors print goes to files of Ray's, on the machine that they run on. They are
shown nowhere, and are what somebody wants to read when an engine did not start, or died again and
again. So errors of that kind end with where they are; those that a disk, the rows or a signal
explain do not.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from pipeline.contract.errors import RunError, shortened
from pipeline.execution.error_rate import ErrorRateError
from pipeline.execution.shutdown import ShutdownError
from pipeline.storage.write_fault import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.execution.progress import RunProgress
    from pipeline.stages.start_board import StartBoard

EXPLAINED = (ErrorRateError, ShutdownError, OutputError)
"""Errors of which the engines' logs say nothing."""


class EngineLogs:
    """The logs of all engines that a run had."""

    def __init__(self) -> None:
        self._found: dict[str, None] = {}
        self._progress: RunProgress | None = None

    def tell_on(self, progress: RunProgress) -> None:
        """Tell them to programs and files from now on, as they are found."""
        self._progress = progress

    def add(self, board: StartBoard) -> None:
        """Take those that the engines have told."""
        with contextlib.suppress(Exception):  # Ray's store does not answer now
            for place in board.logs():
                if place not in self._found and self._progress is not None:
                    self._progress.note("engine_log", f"engine log: {place}", path=place)
                self._found[place] = None

    @contextlib.contextmanager
    def naming(self) -> Iterator[None]:
        """Add where the logs are to an error within that they may explain.

        Raises:
            RunError: In the place of one without them.
        """
        try:
            yield
        except RunError as error:
            if not self._found or isinstance(error, EXPLAINED):
                raise
            text = f"{error}\nEngine log: {shortened([*self._found])}"
            raise type(error)(text) from error
