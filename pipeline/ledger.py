"""Which units are complete, as far as the receipts say: the driver's only memory of a run.

It remembers positions only of units that are begun and not complete, so it does not grow with the
input. Receipts may repeat (Ray retries); a position counts once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pipeline.units import Unit


class Ledger:
    """Counts finished rows by unit.

    Args:
        units: All units of the run.
    """

    def __init__(self, units: Sequence[Unit]) -> None:
        self._waiting = {unit.id: unit for unit in units}
        self._missing: dict[str, set[int]] = {}

    def note(self, unit_id: str, positions: Iterable[int]) -> tuple[int, Unit | None]:
        """Take a receipt.

        Returns:
            How many of its positions are new, and the unit if they complete it.
        """
        unit = self._waiting.get(unit_id)
        if unit is None:  # complete already: a repeated receipt
            return 0, None
        missing = self._missing.setdefault(unit_id, set(range(unit.rows)))
        before = len(missing)
        missing.difference_update(positions)
        if missing:
            return before - len(missing), None
        del self._waiting[unit_id], self._missing[unit_id]
        return before, unit

    def incomplete(self) -> list[Unit]:
        """Units that have not all their rows, in input order."""
        return list(self._waiting.values())
