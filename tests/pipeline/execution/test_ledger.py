"""Units are complete once, and each row of this run counts once, as finished and as failed."""

from __future__ import annotations

from pipeline.execution.ledger import Ledger, Noted
from pipeline.sources.units import Work
from tests.pipeline.output.samples import unit

UNITS = [unit(index=i, id=f"u{i}", stop=3) for i in range(3)]
WORK = [Work(piece) for piece in UNITS]


def computed(*positions: int) -> dict[int, int | None]:
    return dict.fromkeys(positions)


def test_a_unit_is_complete_once_and_repeats_do_not_count() -> None:
    ledger = Ledger(WORK[:2], {})
    assert ledger.note("u0", computed(2)) == Noted(outcomes={"ok": 1})
    assert ledger.note("u0", computed(2, 0)) == Noted(outcomes={"ok": 1})
    assert ledger.note("u1", computed(0, 1)) == Noted(outcomes={"ok": 2})
    assert ledger.is_open("u0")
    assert ledger.note("u0", computed(1)) == Noted(outcomes={"ok": 1}, complete=WORK[0])
    assert not ledger.is_open("u0")
    assert ledger.note("u0", computed(0, 1, 2), {0: "refused"}) == Noted()
    assert ledger.work() == [Work(UNITS[1], (2,))]


def test_what_the_journal_has_is_not_done_again() -> None:
    ledger = Ledger(WORK, {"u0": {1}, "u2": {0, 1, 2}})
    assert ledger.work() == [Work(UNITS[0], (0, 2)), WORK[1], Work(UNITS[2], ())]
    assert [work.unit.id for work in ledger.complete()] == ["u2"]
    assert ledger.note("u0", computed(0, 1, 2), {1: "refused"}) == Noted(
        outcomes={"ok": 2}, complete=WORK[0]
    )


def test_of_some_rows_only_those_are_waited_for() -> None:
    some = Work(UNITS[0], (0, 2))
    ledger = Ledger([some], {})
    assert ledger.work() == [some]
    assert (some.rows, WORK[0].rows) == (2, 3)
    assert ledger.note("u0", computed(0)) == Noted(outcomes={"ok": 1})
    assert ledger.note("u0", computed(2)) == Noted(outcomes={"ok": 1}, complete=some)


def test_rows_that_equal_a_failed_one_fail_with_it() -> None:
    (work,) = [Work(unit(id="u", stop=8))]
    ledger = Ledger([work], {})
    # They count with their original, whether its receipt comes after theirs, with it or before.
    assert ledger.note("u", {3: 0, 4: 1, 5: 0}) == Noted()
    assert ledger.note("u", {0: None, 6: 0}, {0: "refused"}) == Noted(outcomes={"refused": 4})
    assert ledger.note("u", {1: None}) == Noted(outcomes={"ok": 2})
    assert ledger.note("u", {7: 0}) == Noted(outcomes={"refused": 1})
    assert ledger.note("u", {2: None}, {2: "refused"}) == Noted(
        outcomes={"refused": 1}, complete=work
    )
