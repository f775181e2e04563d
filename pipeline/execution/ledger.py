"""Which units of a batch are complete, and which rows of this run have failed, by the receipts.

Holds positions only of units that are begun and not complete. Ray may repeat receipts; a position
counts once. A row that equals another one counts when that one is finished, and fails with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.sources.units import Work

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence


@dataclass(frozen=True, kw_only=True)
class Noted:
    """What a receipt brought.

    Attributes:
        rows: Rows that are finished now and were not before.
        failed: Those of them without results.
        complete: The unit's work, if that is complete now.
    """

    rows: int = 0
    failed: int = 0
    complete: Work | None = None


@dataclass
class _Unit:
    """A unit that is begun.

    Attributes:
        missing: Positions of rows that are not in the journal.
        failed: Positions of rows of this run that have no results.
        waiting: Rows in the journal by the missing row that they equal.
    """

    missing: set[int]
    failed: set[int] = field(default_factory=set)
    waiting: dict[int, list[int]] = field(default_factory=dict)

    def note(self, same_as: Mapping[int, int | None], failed: Collection[int]) -> tuple[int, int]:
        """Take in positions that are in the journal. Returns rows that count now, and failures."""
        new = self.missing.intersection(same_as)
        self.missing -= new
        self.failed |= new.intersection(failed)
        finished = [row for row in new if same_as[row] is None]
        for row in new.difference(finished):
            original = same_as[row]
            assert original is not None
            if original in self.missing:
                self.waiting.setdefault(original, []).append(row)
            else:
                finished.append(row)
                self.failed |= {row} if original in self.failed else set()
        for row in [*finished]:
            others = self.waiting.pop(row, [])
            finished += others
            self.failed |= {*others} if row in self.failed else set()
        return len(finished), len(self.failed.intersection(finished))


class Ledger:
    """The work of a batch that is not finished.

    Args:
        work: The batch's work, at most one `Work` for each unit.
        begun: Positions that are in the journal already, by unit.
    """

    def __init__(self, work: Sequence[Work], begun: Mapping[str, Collection[int]]) -> None:
        self._open = {piece.unit.id: piece for piece in work}
        self._begun: dict[str, _Unit] = {}
        for piece in work:
            if piece.unit.id in begun:
                missing = {*piece.missing}.difference(begun[piece.unit.id])
                self._begun[piece.unit.id] = _Unit(missing)

    def note(
        self, unit_id: str, same_as: Mapping[int, int | None], failed: Collection[int] = ()
    ) -> Noted:
        """Count rows of a unit that are in the journal.

        Args:
            unit_id: The unit.
            same_as: By the rows' positions, that of the identical row whose results the row takes;
                None if it was computed.
            failed: Those that were computed and have no results.
        """
        piece = self._open.get(unit_id)
        if piece is None:  # closed already; the receipt is a repetition
            return Noted()
        begun = self._begun.setdefault(unit_id, _Unit({*piece.missing}))
        rows, failures = begun.note(same_as, failed)
        complete = None if begun.missing else self.close(unit_id)
        return Noted(rows=rows, failed=failures, complete=complete)

    def is_open(self, unit_id: str) -> bool:
        """Whether the unit is neither complete nor given up."""
        return unit_id in self._open

    def close(self, unit_id: str) -> Work:
        """Take a unit's work out: it is complete, or cannot be finished here."""
        self._begun.pop(unit_id, None)
        return self._open.pop(unit_id)

    def complete(self) -> list[Work]:
        """Work whose rows were all in the journal from the start."""
        return [
            work
            for unit_id, work in self._open.items()
            if unit_id in self._begun and not self._begun[unit_id].missing
        ]

    def work(self) -> list[Work]:
        """The work that is left, in input order."""
        return [
            Work(piece.unit, tuple(sorted(self._begun[unit_id].missing)))
            if unit_id in self._begun
            else piece
            for unit_id, piece in self._open.items()
        ]
