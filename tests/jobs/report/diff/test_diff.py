"""What differs between two OUTPUTs: every count exact, whatever the parts are."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from typer.testing import CliRunner

from jobs.cli.app import app
from jobs.cli.diff_tables import _outcomes
from jobs.report.diff import pairs
from jobs.report.diff.changes import Changes
from jobs.report.diff.compare import Difference, compare_outputs
from jobs.report.diff.page import write_page
from jobs.report.diff.words import Kind, around_change, differing_words
from pipeline import Outcome, UserError
from pipeline.output import parts
from pipeline.storage.location import Location
from tests.jobs.report.outputs import (
    caption_task,
    drawing,
    image_rows,
    make_output,
    moderation_task,
    scores,
    text_rows,
    translation_task,
)
from tests.jobs.report.test_write import Parsed

ROWS = 60


def first(number: int) -> dict[str, Any]:
    if number % 20 == 0:
        return {"outcome": "decode_error", "error": "decode: cut off"}
    return {"caption": f"a cat on mat {number}"}


def second(number: int) -> dict[str, Any]:
    """Of every third row another answer; of those that failed half have one."""
    if number % 40 == 0:
        return {"outcome": "decode_error", "error": "decode: cut off"}
    return {"caption": f"a {'dog' if number % 3 == 0 else 'cat'} on mat {number}"}


EXPECTED_ANSWERS = sum(first(n).get("caption") != second(n).get("caption") for n in range(ROWS))


@pytest.fixture
def two(tmp_path: Path) -> tuple[str, str]:
    source = image_rows(tmp_path / "in", ROWS)
    task = caption_task(prompt="Say <b>what</b> it is.")
    return (
        make_output(str(tmp_path / "a"), caption_task(), source, first, unit_rows=13),
        make_output(str(tmp_path / "b"), task, source, second, unit_rows=13),
    )


def check(found: Difference) -> None:
    changes = found.changes
    assert (changes.both, changes.alone, changes.unclear) == (ROWS, (0, 0), (0, 0))
    assert changes.any_answer == changes.changed["caption"] == EXPECTED_ANSWERS
    assert changes.outcomes == {
        ("ok", "ok"): ROWS - 3,
        ("decode_error", "decode_error"): 2,
        ("decode_error", "ok"): 1,
    }
    assert changes.tokens == {"prompt_tokens": (280 * 60,) * 2, "output_tokens": (12 * 60,) * 2}


def test_rows_are_paired_by_their_key(two: tuple[str, str]) -> None:
    found = compare_outputs(*two)
    check(found)
    assert [*found.settings] == ["settings.prompt"]
    assert len(found.changes.kept()) == EXPECTED_ANSWERS
    same = compare_outputs(two[0], two[0])
    assert (same.changes.any_answer, same.settings, same.changes.kept()) == (0, {}, [])


def test_rows_of_outputs_that_were_cut_otherwise_are_paired_by_a_column(
    two: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_output(
        str(tmp_path / "c"),
        caption_task(),
        str(tmp_path / "in"),
        second,
        unit_rows=7,
        output_format="jsonl",
        prefix="new_",
    )
    by_key = compare_outputs(two[0], other).changes
    assert (by_key.both, by_key.alone) == (0, (ROWS, ROWS))
    monkeypatch.setattr(pairs, "BUCKET_ROWS", 10)
    check(compare_outputs(two[0], other, on="name"))
    with pytest.raises(UserError, match=r"no column 'nmae'; did you mean 'name'\?$"):
        compare_outputs(two[0], other, on="nmae")


def test_a_part_from_before_a_column_came_has_none(
    two: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_part(part: Location, is_wanted: Callable[[pa.Field], bool]) -> pa.Table:
        table = parts.read_part(part, is_wanted)
        return table.drop_columns(["name"]) if "part-00000000" in part.name else table

    monkeypatch.setattr(pairs, "read_part", read_part)
    changes = compare_outputs(*two, on="name").changes
    assert (changes.both, changes.unclear) == (
        ROWS - 12,
        (12, 12),
    )  # units of at most 13 rows have 12


def test_rows_in_one_alone_and_rows_that_share_a_value_are_counted(tmp_path: Path) -> None:
    texts = [f"text {number // 2 if number < 10 else number}" for number in range(30)]
    source = text_rows(tmp_path / "in", texts)
    task = translation_task("de")
    one = make_output(
        str(tmp_path / "a"), task, source, lambda n: {"text_de": f"{n}"}, unit_rows=10
    )
    part = {"unit_rows": 10, "units": lambda index: index < 2}
    other = make_output(str(tmp_path / "b"), task, source, lambda n: {"text_de": f"{n}"}, **part)
    by_key = compare_outputs(one, other).changes
    assert (by_key.both, by_key.alone, by_key.any_answer) == (20, (10, 0), 0)
    by_text = compare_outputs(one, other, on="text").changes
    assert (by_text.both, by_text.alone, by_text.unclear) == (10, (10, 0), (10, 10))


def test_scores_are_measured(tmp_path: Path) -> None:
    source = image_rows(tmp_path / "in", 50)

    def other(number: int) -> dict[str, Any]:
        given = scores(number)
        return {**given, "p_violence": given["p_violence"] * 0.5, "flagged": False}

    one = make_output(str(tmp_path / "a"), moderation_task(), source, scores)
    two = make_output(str(tmp_path / "b"), moderation_task(), source, other)
    changes = compare_outputs(one, two).changes
    moved = [scores(n)["p_violence"] / 2 for n in range(50)]
    distance = changes.distance["p_violence"]
    assert (distance.total, distance.most) == pytest.approx((sum(moved), max(moved)))
    assert changes.changed["flagged"] == sum(scores(n)["flagged"] for n in range(50))
    assert changes.changed["p_weapons"] == 0


def test_scores_of_rows_that_failed_do_not_count_as_unmoved(tmp_path: Path) -> None:
    source = image_rows(tmp_path / "in", 20)
    made = []
    for name, score in (("a", 0.9), ("b", 0.4)):

        def given(number: int, score: float = score) -> dict[str, Any]:
            failed = {"outcome": "refused", "error": "parse: no"}
            return {**scores(number), "p_violence": score} if number < 2 else failed

        made.append(make_output(str(tmp_path / name), moderation_task(), source, given))
    assert compare_outputs(*made).to_json()["columns"]["p_violence"] == {
        "changed": 2,
        "mean_move": pytest.approx(0.5),
        "largest_move": pytest.approx(0.5),
    }


def test_under_a_prefix_a_result_may_be_called_as_a_column_of_the_input(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    titles = [f"holiday {number}" for number in range(6)]
    table = pa.table({"title": titles, "image": [drawing(number) for number in range(6)]})
    pq.write_table(table, tmp_path / "in" / "a.parquet")
    task = caption_task(output_column="title")
    one, other = (
        make_output(
            str(tmp_path / animal),
            task,
            str(tmp_path / "in"),
            lambda number, animal=animal: {"title": f"a {animal} {number}"},  # type: ignore[misc]
            prefix="gemma_",
        )
        for animal in ("cat", "dog")
    )
    for on in (None, "title"):
        changes = compare_outputs(one, other, on=on).changes
        assert (changes.both, changes.changed["title"]) == (6, 6)
        found = {sample.name: sample.answers["title"] for sample in changes.kept()}
        assert found["holiday 3"] == ("a cat 3", "a dog 3")


def test_values_that_python_has_not_are_compared_and_paired(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    ends = pa.array([0, 4, 8], pa.int32()).buffers()[1]
    bad = pa.Array.from_buffers(pa.string(), 2, [None, ends, pa.py_buffer(b"caf\xe9abcd")])
    late = pa.array([253402300799999999 + 3600 * 10**6, 0], pa.timestamp("us", "UTC"))
    table = pa.table({"name": bad, "taken": late, "image": [drawing(0), drawing(1)]})
    pq.write_table(table, tmp_path / "in" / "a.parquet")
    one, other = (
        make_output(str(tmp_path / name), caption_task(), str(tmp_path / "in"), answer)
        for name, answer in (("a", first), ("b", lambda n: {"caption": f"another {n}"}))
    )
    for on in (None, "name", "taken"):
        changes = compare_outputs(one, other, on=on).changes
        assert (changes.both, changes.any_answer) == (2, 2)
        assert {sample.name for sample in changes.kept()} == {"caf\ufffd", "abcd"}


def test_numbers_of_two_types_are_paired_and_an_output_without_parts_has_columns(
    tmp_path: Path,
) -> None:
    made = []
    for name, type_ in (("a", pa.int64()), ("b", pa.float64())):
        (tmp_path / f"in-{name}").mkdir()
        table = pa.table({"n": pa.array([1, 2], type_), "image": [drawing(0), drawing(1)]})
        pq.write_table(table, tmp_path / f"in-{name}" / "a.parquet")
        source = str(tmp_path / f"in-{name}")
        made.append(make_output(str(tmp_path / name), caption_task(), source, first))
    assert compare_outputs(*made, on="n").changes.both == 2
    none = make_output(
        str(tmp_path / "c"), caption_task(), source, first, units=lambda index: index < 0
    )
    assert compare_outputs(made[0], none, on="n").changes.alone == (2, 0)


@pytest.mark.parametrize("longest", [20, 200])
def test_a_change_far_inside_is_shown(longest: int) -> None:
    same = "word " * 60
    one, other = around_change(f"{same}cat{' end' * 90}", f"{same}dog", longest)
    assert max(map(len, (one, other))) <= longest
    assert (one[0], one[-1], other[-4:]) == ("…", "…", " dog")
    assert " cat " in one
    assert around_change("short", "shorter", 20) == ("short", "shorter")
    assert around_change("x" * 30, "x" * 30, 20) == (f"{'x' * 19}…",) * 2


def test_what_differs_is_in_the_sample_and_on_the_terminal(tmp_path: Path) -> None:
    source = image_rows(tmp_path / "in", 2)
    same = "word " * 6000
    one, other = (
        make_output(
            str(tmp_path / animal),
            caption_task(),
            source,
            lambda _, animal=animal: {"caption": same + animal},  # type: ignore[misc]
        )
        for animal in ("cat", "dog")
    )
    found = compare_outputs(one, other)
    assert "<ins>dog</ins>" in Path(write_page(found, str(tmp_path / "d.html"))).read_text()
    run = CliRunner().invoke(app, ["diff", one, other])
    assert "[-cat-]{+dog+}" in run.output


def test_no_more_parts_are_read_than_are_compared(
    two: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    whole = pairs.Side.read

    def counted(self: pairs.Side, part: str) -> Any:
        read.append(part)
        return whole(self, part)

    monkeypatch.setattr(pairs.Side, "read", counted)
    found = compare_outputs(two[0], two[1])
    read.clear()
    some = pairs.by_unit(found.one, found.other)
    next(some)
    assert len(read) <= 2 * (pairs.AHEAD + 1)  # of ten


def test_the_sample_is_bounded_and_the_same_every_time(two: tuple[str, str]) -> None:
    found = [[s.key for s in compare_outputs(*two, samples=4).changes.kept()] for _ in range(2)]
    assert found[0] == found[1]
    assert len(found[0]) == 5  # four with another answer, and the one with another outcome


@pytest.mark.parametrize(
    ("before", "after", "removed", "added"),
    [
        ("a red cat", "a blue cat", ["red"], ["blue"]),
        ("same", "same", [], []),
        ("", "new text", [], ["new text"]),
        ("ภาพแมวสีส้ม", "ภาพหมาสีส้ม", ["แ", "ว"], ["ห", "า"]),
        ("قط أحمر", "قط أزرق", ["أحمر"], ["أزرق"]),
        ("x " * 9000 + "a" + " y" * 9000, "x " * 9000 + "b" + " y" * 9000, ["a"], ["b"]),
    ],
)
def test_words_that_differ(before: str, after: str, removed: list[str], added: list[str]) -> None:
    pieces = differing_words(before, after)
    assert "".join(p.text for p in pieces if p.kind is not Kind.ADDED) == before
    assert "".join(p.text for p in pieces if p.kind is not Kind.REMOVED) == after
    assert [p.text for p in pieces if p.kind is Kind.REMOVED] == removed
    assert [p.text for p in pieces if p.kind is Kind.ADDED] == added


def test_the_page_shows_changed_words_and_runs_nothing(
    two: tuple[str, str], tmp_path: Path
) -> None:
    where = write_page(compare_outputs(*two), str(tmp_path / "diff.html"))
    body = Path(where).read_text()
    assert "<del>cat</del>" in body
    assert "<ins>dog</ins>" in body
    assert "&lt;b&gt;what&lt;/b&gt;" in body
    page = Parsed(body)
    assert len([tag for tag, _ in page.elements if tag == "script"]) == 1
    sources = [attrs["src"] for tag, attrs in page.elements if tag == "img"]
    assert len(sources) == EXPECTED_ANSWERS
    assert all(source and source.startswith("data:image/webp;") for source in sources)


def test_the_command_shows_a_table_or_json(two: tuple[str, str], tmp_path: Path) -> None:
    run = CliRunner().invoke(app, ["diff", *two])
    assert run.exit_code == 0, run.output
    assert f"60 rows in both, {EXPECTED_ANSWERS} of them with another answer" in run.output
    assert "[-cat-]{+dog+}" in run.output
    run = CliRunner().invoke(app, ["diff", *two, "--json", "--to", str(tmp_path / "d.html")])
    found = json.loads(run.stdout)
    assert found["answers_changed"] == EXPECTED_ANSWERS
    assert found["rows"] == {"both": 60, "only_one": 0, "only_other": 0, "unclear": [0, 0]}
    assert (tmp_path / "d.html").exists()
    wrong = CliRunner().invoke(app, ["diff", two[0], str(tmp_path)])
    assert wrong.exit_code == 2


def test_no_outcome_and_no_count_is_cut_on_a_narrow_terminal() -> None:
    names = [*map(str, Outcome)][:7]
    changes = Changes(compared=(), sources=(), naming=None, samples=0)
    changes.outcomes.update({(name, name): 1_234_567 for name in names})
    console = Console(width=80, file=io.StringIO())
    console.print(_outcomes(changes))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    cells = [re.split("[│┃]", line) for line in lines if line[0] in "│┃"]
    columns = ["".join(cell.strip() for cell in column) for column in zip(*cells, strict=True)]
    assert columns[2:-1] == [f"{name}1,234,567" for name in sorted(names)]


def test_no_file_is_written_into_an_output(
    two: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Changes, "add", None)  # the page is refused before anything is compared
    commands = [["diff", *two, "--to", f"{output}/d.html"] for output in two]
    for command in (*commands, ["errors", two[0], "--export", f"{two[0]}/part-x.parquet"]):
        run = CliRunner().invoke(app, command)
        assert run.exit_code == 2
        assert "lies in OUTPUT; name a file outside of it" in run.stderr
