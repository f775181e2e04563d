from __future__ import annotations

from pipeline.ledger import Ledger
from pipeline.units import Unit

UNITS = [Unit(index=i, id=f"u{i}", files=("f",), start=0, stop=3) for i in range(2)]


def test_a_unit_is_complete_once_and_repeats_do_not_count() -> None:
    ledger = Ledger(UNITS)
    assert ledger.note("u0", [2]) == (1, None)
    assert ledger.note("u0", [2, 0]) == (1, None)
    assert ledger.note("u1", [0, 1]) == (2, None)
    assert ledger.note("u0", [1]) == (1, UNITS[0])
    assert ledger.note("u0", [0, 1, 2]) == (0, None)
    assert ledger.incomplete() == [UNITS[1]]
