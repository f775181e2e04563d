from __future__ import annotations

from pipeline.execution.ledger import Ledger
from pipeline.sources.units import Work
from tests.pipeline.output.samples import unit

UNITS = [unit(index=i, id=f"u{i}", stop=3) for i in range(3)]
WORK = [Work(piece) for piece in UNITS]


def test_a_unit_is_complete_once_and_repeats_do_not_count() -> None:
    ledger = Ledger(WORK[:2], {})
    assert ledger.note("u0", [2]) == (1, None)
    assert ledger.note("u0", [2, 0]) == (1, None)
    assert ledger.note("u1", [0, 1]) == (2, None)
    assert ledger.note("u0", [1]) == (1, WORK[0])
    assert ledger.note("u0", [0, 1, 2]) == (0, None)
    assert ledger.work() == [Work(UNITS[1], (2,))]


def test_what_the_journal_has_is_not_done_again() -> None:
    ledger = Ledger(WORK, {"u0": {1}, "u2": {0, 1, 2}})
    assert ledger.work() == [Work(UNITS[0], (0, 2)), WORK[1], Work(UNITS[2], ())]
    assert [work.unit.id for work in ledger.complete()] == ["u2"]
    assert ledger.note("u0", [0, 2]) == (2, WORK[0])


def test_of_some_rows_only_those_are_waited_for() -> None:
    some = Work(UNITS[0], (0, 2))
    ledger = Ledger([some], {})
    assert ledger.work() == [some]
    assert (some.rows, WORK[0].rows) == (2, 3)
    assert ledger.note("u0", [0]) == (1, None)
    assert ledger.note("u0", [2]) == (1, some)
