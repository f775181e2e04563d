"""Which units of a batch are complete, according to the receipts.

Holds positions only of units that are begun and not complete. Ray may repeat receipts; a position
counts once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.sources.units import Work

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


class Ledger:
    """The work of a batch that is not finished.

    Args:
        work: The batch's work, at most one `Work` for each unit.
        begun: Positions that are in the journal already, by unit.
    """

    def __init__(self, work: Sequence[Work], begun: Mapping[str, set[int]]) -> None:
        self._open = {piece.unit.id: piece for piece in work}
        self._missing: dict[str, set[int]] = {}
        for piece in work:
            if piece.unit.id in begun:
                self._missing[piece.unit.id] = {*piece.missing} - begun[piece.unit.id]

    def note(self, unit_id: str, positions: Iterable[int]) -> tuple[int, Work | None]:
        """Count finished rows of a unit.

        Returns:
            How many of the positions are new; and the unit's work if that is complete now.
        """
        piece = self._open.get(unit_id)
        if piece is None:  # closed already; the receipt is a repetition
            return 0, None
        missing = self._missing.setdefault(unit_id, {*piece.missing})
        before = len(missing)
        missing.difference_update(positions)
        if missing:
            return before - len(missing), None
        return before, self.close(unit_id)

    def close(self, unit_id: str) -> Work:
        """Take a unit's work out: it is complete, or cannot be finished here."""
        self._missing.pop(unit_id, None)
        return self._open.pop(unit_id)

    def complete(self) -> list[Work]:
        """Work whose rows were all in the journal from the start."""
        return [work for work in self._open.values() if self._missing.get(work.unit.id) == set()]

    def work(self) -> list[Work]:
        """The work that is left, in input order."""
        return [
            Work(piece.unit, tuple(sorted(self._missing[unit_id])))
            if unit_id in self._missing
            else piece
            for unit_id, piece in self._open.items()
        ]
