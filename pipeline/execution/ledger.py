"""Which units of a batch are complete, as far as the receipts say.

It remembers positions only of units that are begun and not complete. Receipts may repeat (Ray
retries); a position counts once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.sources.units import Work

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


class Ledger:
    """Counts finished rows by unit.

    Args:
        work: What is to be done, of each unit at most one piece.
        begun: Positions that are in the journal already, by unit.
    """

    def __init__(self, work: Sequence[Work], begun: Mapping[str, set[int]]) -> None:
        self._open = {piece.unit.id: piece for piece in work}
        self._missing: dict[str, set[int]] = {}
        for piece in work:
            if piece.unit.id in begun:
                self._missing[piece.unit.id] = {*piece.missing} - begun[piece.unit.id]

    def note(self, unit_id: str, positions: Iterable[int]) -> tuple[int, Work | None]:
        """Take a receipt.

        Returns:
            How many of its positions are new, and what was to be done of the unit if they complete
            it.
        """
        piece = self._open.get(unit_id)
        if piece is None:  # closed already: a repeated receipt
            return 0, None
        missing = self._missing.setdefault(unit_id, {*piece.missing})
        before = len(missing)
        missing.difference_update(positions)
        if missing:
            return before - len(missing), None
        return before, self.close(unit_id)

    def close(self, unit_id: str) -> Work:
        """Expect no more of a unit: it is complete, or nothing more can be done of it here."""
        self._missing.pop(unit_id, None)
        return self._open.pop(unit_id)

    def complete(self) -> list[Work]:
        """Units whose rows were all in the journal before anything ran."""
        return [work for work in self._open.values() if self._missing.get(work.unit.id) == set()]

    def work(self) -> list[Work]:
        """What is missing, in input order."""
        return [
            Work(piece.unit, tuple(sorted(self._missing[unit_id])))
            if unit_id in self._missing
            else piece
            for unit_id, piece in self._open.items()
        ]
