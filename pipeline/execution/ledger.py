"""Which units of a batch are complete, and what became of the rows of this run, by the receipts.

Holds positions only of units that are begun and not complete. Ray may repeat receipts; a position
counts once. A row that equals another one counts when that one is finished, with its outcome.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.contract.record import Outcome
from pipeline.sources.units import Work

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence


@dataclass(frozen=True, kw_only=True)
class Noted:
    """What a receipt brought.

    Attributes:
        outcomes: Rows that are finished now and were not before, by outcome.
        complete: The unit's work, if that is complete now.
    """

    outcomes: Mapping[str, int] = field(default_factory=dict)
    complete: Work | None = None

    @property
    def rows(self) -> int:
        """Rows that are finished now."""
        return sum(self.outcomes.values())

    @property
    def failed(self) -> int:
        """Those of them without results."""
        return sum(n for name, n in self.outcomes.items() if not Outcome(name).has_results)


@dataclass
class _Unit:
    """A unit that is begun.

    Attributes:
        missing: Positions of rows that are not in the journal.
        outcomes: Of the rows of this run, by position.
        waiting: Rows in the journal by the missing row that they equal.
    """

    missing: set[int]
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    waiting: dict[int, list[int]] = field(default_factory=dict)

    def note(self, same_as: Mapping[int, int | None], outcomes: Mapping[int, str]) -> Counter[str]:
        """Take in positions that are in the journal. Returns the rows that count now."""
        new = self.missing.intersection(same_as)
        self.missing -= new
        finished = Counter[str]()
        for row in new:
            original = same_as[row]
            if original is None:
                self._finish(row, Outcome(outcomes.get(row, Outcome.OK)), finished)
        for row in new:
            original = same_as[row]
            if original is None:
                continue
            if original in self.missing:
                self.waiting.setdefault(original, []).append(row)
            else:
                self._finish(row, self.outcomes.get(original, Outcome.OK), finished)
        return finished

    def _finish(self, row: int, outcome: Outcome, finished: Counter[str]) -> None:
        for one in (row, *self.waiting.pop(row, ())):
            self.outcomes[one] = outcome
            finished[str(outcome)] += 1


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
        self,
        unit_id: str,
        same_as: Mapping[int, int | None],
        outcomes: Mapping[int, str] | None = None,
    ) -> Noted:
        """Count rows of a unit that are in the journal.

        Args:
            unit_id: The unit.
            same_as: By the rows' positions, that of the identical row whose results the row takes;
                None if it was computed.
            outcomes: Of those that were computed, by position; `ok` where one is not named.
        """
        piece = self._open.get(unit_id)
        if piece is None:  # closed already; the receipt is a repetition
            return Noted()
        if unit_id not in self._begun:
            self._begun[unit_id] = _Unit({*piece.missing})
        begun = self._begun[unit_id]
        finished = begun.note(same_as, outcomes or {})
        complete = None if begun.missing else self.close(unit_id)
        return Noted(outcomes=finished, complete=complete)

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
