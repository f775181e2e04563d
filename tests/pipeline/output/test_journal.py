"""What a journal gives back of rows that were written twice, by halves or in pieces."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from pipeline.output.journal import OF_RETRIES, Journal, entry_schema
from pipeline.storage.atomic import overwrite
from pipeline.storage.location import Location, locate
from tests.pipeline.output.samples import RESULTS, entries, failed, journal_in, like, output

__all__ = ["output"]


def texts(journal: Journal, unit_id: str) -> dict[int, str]:
    found = journal.entries(unit_id)
    return dict(zip(found["position"].to_pylist(), found["text"].to_pylist(), strict=True))


def test_a_position_counts_once(output: Location) -> None:
    journal = journal_in(output)
    for positions in ([3, 1], [1, 2], [3]):
        journal.append("u", entries(positions))
    journal.append("v", entries([0]))
    assert texts(journal, "u") == {1: "t1", 2: "t2", 3: "t3"}
    assert journal.begun() == {"u": {1, 2, 3}, "v": {0}}
    journal.forget("u")
    journal.forget("u")
    assert journal.begun() == {"v": {0}}
    assert texts(journal, "u") == {}


def test_rows_that_equal_another_take_its_results(output: Location) -> None:
    journal = journal_in(output)
    journal.append("u", entries([0, 1, 2]))
    journal.append("u", like({5: 2, 6: 0}))
    journal.append("u", like({7: 5, 9: 7}))  # of a driver that found row 5 finished
    journal.append("u", like({8: 4}))  # which nobody has computed
    journal.append("u", like({1: 0}))  # which somebody has computed
    expected = {0: "t0", 1: "t1", 2: "t2", 5: "t2", 6: "t0", 7: "t2", 9: "t2"}
    assert texts(journal, "u") == expected


def test_a_damaged_file_is_ignored(output: Location) -> None:
    journal = journal_in(output)
    for body in (b"", b"PAR1 but not for long"):
        overwrite(journal.folder("u") / f"{len(body)}.parquet", body)
    journal.append("u", entries([0]))
    assert journal.begun() == {"u": {0}}
    assert texts(journal, "u") == {0: "t0"}


PAGE = 4096


def test_a_file_with_a_damaged_page_is_ignored(tmp_path: Path) -> None:
    """After a power loss a page may be zeros, while the end of the file is there."""
    journal = journal_in(locate(str(tmp_path)))
    journal.append("u", entries([*range(200)], "".join(f"{n * n:x}" for n in range(300))))
    whole, (file,) = texts(journal, "u"), tmp_path.rglob("*.parquet")
    body = file.read_bytes()
    assert len(body) > 3 * PAGE
    for start in range(0, len(body), PAGE):
        end = min(start + PAGE, len(body))
        file.write_bytes(body[:start] + bytes(end - start) + body[end:])
        assert (journal.begun(), texts(journal, "u")) == ({}, {}), start
    file.write_bytes(body)
    assert texts(journal, "u") == whole
    assert journal.begun() == {"u": {*range(200)}}


def test_a_row_with_results_is_preferred_to_its_failure(output: Location) -> None:
    """Two drivers computed it. Files have random names, so this is tried some times."""
    journal = journal_in(output)
    for number in range(8):
        journal.append(f"u{number}", failed([0, 1]))
        journal.append(f"u{number}", entries([0]))
        journal.append(f"u{number}", failed([0]))
        found = journal.entries(f"u{number}")
        assert found["outcome"].to_pylist() == ["ok", "decode_error"]


def test_failures_of_a_retry_that_was_killed_are_forgotten(output: Location) -> None:
    journal = Journal(output, RESULTS, OF_RETRIES)
    journal.append("u", entries([0, 1]))
    journal.append("u", failed([2, 3]))
    journal.append("u", like({4: 0, 5: 2}))
    journal.append("v", failed([0]))
    journal.append("w", entries([0]))
    for _ in range(2):
        journal.forget_failures(["truncated"])
        assert journal.begun() == {"u": {0, 1, 4}, "w": {0}}
        assert texts(journal, "u") == {0: "t0", 1: "t1", 4: "t0"}
    journal.append("u", entries([2, 3], "again "))
    journal.append("u", like({5: 2}))
    assert texts(journal, "u")[5] == "again 2"


def test_results_that_are_wanted_anew_are_forgotten_too(output: Location) -> None:
    journal = Journal(output, RESULTS, OF_RETRIES)
    cut = entries([0, 1]).to_pylist()
    cut[1]["outcome"] = "truncated"
    journal.append("u", pa.Table.from_pylist(cut, schema=entry_schema(RESULTS)))
    journal.forget_failures([])
    assert journal.begun() == {"u": {0, 1}}
    journal.forget_failures(["truncated"])
    assert journal.begun() == {"u": {0}}


def test_a_retry_has_a_journal_of_its_own(output: Location) -> None:
    run, retry = journal_in(output), Journal(output, RESULTS, OF_RETRIES)
    run.append("u", entries([0], "run "))
    retry.append("u", entries([0], "retry "))
    assert (texts(run, "u"), texts(retry, "u")) == ({0: "run 0"}, {0: "retry 0"})
    retry.forget("u")
    assert (run.begun(), retry.begun()) == ({"u": {0}}, {})
