"""The rows that a run takes, of every format: those that match, the first of them, or a sample."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import RunConfig, UserError
from pipeline.contract.config import EngineConfig
from pipeline.sources import FAULT, Selection, Source, list_input, open_source
from pipeline.sources.jsonl import JsonLines
from pipeline.sources.parquet import ParquetSource
from pipeline.sources.selection import matches, passthrough_taken, read_taken
from pipeline.sources.units import Cut
from pipeline.storage.location import FileInfo

ROWS = 400
LANGUAGES = ["en", "de", "fr", "en", "es"]


def records(first: int, count: int) -> list[dict[str, Any]]:
    return [{"n": n, "lang": LANGUAGES[n % 5]} for n in range(first, first + count)]


def write_parquet(folder: Path) -> None:
    for number in range(4):
        table = pa.Table.from_pylist(records(100 * number, 100))
        pq.write_table(table, folder / f"{number}.parquet", row_group_size=30)


def write_partitions(folder: Path) -> None:
    """As `write_parquet`, with the language in the path, and so in another order."""
    for language in sorted({*LANGUAGES}):
        (folder / f"lang={language}").mkdir()
        rows = [{"n": row["n"]} for row in records(0, ROWS) if row["lang"] == language]
        pq.write_table(pa.Table.from_pylist(rows), folder / f"lang={language}/a.parquet")


def write_jsonl(folder: Path) -> None:
    for number in range(4):
        lines = [json.dumps(row) + "\n" for row in records(100 * number, 100)]
        (folder / f"{number}.jsonl").write_text("".join(lines))


def write_tar(folder: Path) -> None:
    with tarfile.open(folder / "a.tar", "w") as shard:
        for row in records(0, ROWS):
            for suffix, body in (("cls", row["lang"]), ("txt", str(row["n"]))):
                info = tarfile.TarInfo(f"{row['n']:05}.{suffix}")
                info.size = len(body)
                shard.addfile(info, io.BytesIO(body.encode()))


WRITERS = {"parquet": write_parquet, "partitions": write_partitions, "jsonl": write_jsonl}


def opened(folder: Path, **options: Any) -> tuple[Source, list[Cut]]:
    """The source of a folder, and its cuts with the rows that these options take."""
    unit_rows = options.pop("unit_rows", 50)
    config = RunConfig(input=str(folder), output="out", engine=EngineConfig(model="m"), **options)
    listing = list_input(str(folder))
    most = None if config.where else config.limit
    source = open_source(listing, unit_rows=unit_rows, keep_images=False, most_rows=most)
    selection = Selection.of(config, source.schema, unit_rows)
    return source, [*selection.cuts(source, listing.files)]


def read(source: Source, cuts: Sequence[Cut], column: str = "n") -> list[Any]:
    """A column of all rows that are taken, read in both ways."""
    values: list[Any] = []
    for cut in cuts:
        here = [v for t in read_taken(source, cut, [column]) for v in t[column].to_pylist()]
        assert len(here) == cut.rows > 0
        passed = [v for t in passthrough_taken(source, cut) for v in t[column].to_pylist()]
        assert passed == here
        values += here
    return values


@pytest.fixture(params=WRITERS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    WRITERS[request.param](tmp_path)
    return tmp_path


def expected(folder: Path) -> list[int]:
    """All rows in input order."""
    return read(*opened(folder))


def test_rows_that_match_are_taken(folder: Path) -> None:
    order = expected(folder)
    due = [n for n in order if LANGUAGES[n % 5] == "en" and n >= 250]
    source, cuts = opened(folder, where="lang = 'en' and n >= 250")
    assert read(source, cuts) == due
    assert max(cut.rows for cut in cuts) <= 50
    first = read(*opened(folder, where="lang = 'en' and n >= 250", limit=7))
    assert first == due[:7]


def test_the_first_rows_are_taken(folder: Path) -> None:
    order = expected(folder)
    for limit in (1, 49, 50, 51, 399, 400, 1000):
        assert read(*opened(folder, limit=limit)) == order[:limit]


def test_a_sample_does_not_depend_on_units(folder: Path) -> None:
    order = expected(folder)
    first = read(*opened(folder, sample=60))
    assert len({*first}) == 60
    assert first == [n for n in order if n in {*first}]
    assert read(*opened(folder, sample=60, unit_rows=7)) == first
    assert read(*opened(folder, sample=60, sample_seed=1)) != first
    some = read(*opened(folder, sample=60, where="lang = 'de'"))
    assert len(some) == 60
    assert {n % 5 for n in some} == {1}
    assert read(*opened(folder, sample=1000)) == order


def test_tar_shards_are_filtered_and_sampled(tmp_path: Path) -> None:
    write_tar(tmp_path)
    texts = read(*opened(tmp_path, where="cls = 'fr'", limit=20), column="txt")
    assert texts == [str(n) for n in range(2, 100, 5)]
    assert len(read(*opened(tmp_path, sample=33), column="txt")) == 33


@pytest.mark.parametrize("suffix", ["png", "mp4"])
def test_of_images_and_videos_files_are_taken(tmp_path: Path, suffix: str) -> None:
    for number in range(60):
        place = tmp_path / ("cats" if number % 3 else "dogs")
        place.mkdir(exist_ok=True)
        (place / f"{number:02}.{suffix}").write_bytes(b"x")
    source, cuts = opened(tmp_path, where="starts_with(path, 'dogs/')", unit_rows=7)
    paths = read(source, cuts, "path")
    assert paths == [f"dogs/{number:02}.{suffix}" for number in range(0, 60, 3)]
    assert [cut.taken for cut in cuts] == [None] * len(cuts)
    assert (
        read(*opened(tmp_path, limit=9, unit_rows=7), column="path")
        == [f"cats/{n:02}.{suffix}" for n in range(60) if n % 3][:9]
    )
    sample = read(*opened(tmp_path, sample=9, unit_rows=7), column="path")
    assert sample == read(*opened(tmp_path, sample=9), column="path")
    assert sample == sorted(sample)


def test_a_limit_leaves_later_files_uncut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_jsonl(tmp_path)
    cut, files = JsonLines._cut_file, []

    def noted(source: JsonLines, file: FileInfo) -> list[Cut]:
        files.append(file.path)
        return cut(source, file)

    monkeypatch.setattr(JsonLines, "_cut_file", noted)
    source, cuts = opened(tmp_path, limit=99)
    assert [cut.rows for cut in source.cut(list_input(str(tmp_path)).files[1:2])] == [50, 49]
    assert read(source, cuts) == [*range(99)]
    assert files == ["0.jsonl", "1.jsonl"]


def test_columns_that_drift_are_compared_as_one(tmp_path: Path) -> None:
    """As they are read, and where statistics are of another type than the input's."""
    one = {"n": pa.array(range(5), pa.int32()), "tag": pa.array(["a"] * 5).dictionary_encode()}
    other = {"n": pa.array(range(5, 9), pa.int64()), "tag": ["b", None, "a", "b"]}
    pq.write_table(pa.table(one), tmp_path / "a.parquet")
    pq.write_table(pa.table({**other, "late": ["x", None, "y", "x"]}), tmp_path / "b.parquet")
    assert read(*opened(tmp_path, where="n > 3 and tag = 'a'")) == [4, 7]
    assert read(*opened(tmp_path, where="late is null or late = 'y'")) == [*range(5), 6, 7]


def test_row_groups_that_statistics_rule_out_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_parquet(tmp_path)
    groups = []
    batches = matches._batches

    def noted(parquet: Any, group: int, *rest: Any) -> Any:
        groups.append(group)
        return batches(parquet, group, *rest)

    monkeypatch.setattr(matches, "_batches", noted)
    assert read(*opened(tmp_path, where="n >= 170 and n < 205")) == [*range(170, 205)]
    assert sorted(groups) == [0, 2, 3]  # the last two of the second file, the first of the third


@pytest.mark.parametrize("statistics", [True, False])
def test_statistics_do_not_rule_out_what_they_leave_out(tmp_path: Path, statistics: bool) -> None:
    table = pa.table({"x": [3.0, float("nan"), 3.0], "o": [{"x": 3.0}, {"x": float("nan")}, None]})
    pq.write_table(table, tmp_path / "a.parquet", write_statistics=statistics)
    for condition in ("x != 3", "not x > 1", "o.x != 3"):
        _, cuts = opened(tmp_path, where=condition)
        assert sum(cut.rows for cut in cuts) == 1, condition


def test_a_row_that_cannot_be_read_is_taken(tmp_path: Path) -> None:
    lines = [json.dumps(row) for row in records(0, 20)]
    lines[3] = "{broken"
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    source, cuts = opened(tmp_path, where="lang = 'fr'")
    tables = [table for cut in cuts for table in read_taken(source, cut, ["n", "lang"])]
    rows = pa.concat_tables(tables, promote_options="default")
    assert rows["n"].to_pylist() == [2, None, 7, 12, 17]
    assert [row for row, fault in enumerate(rows[FAULT].to_pylist()) if fault] == [1]


def test_few_rows_are_read_for_few_that_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pa.Table.from_pylist(records(0, 10_000))
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=100)
    whole, ranges = ParquetSource.read, []

    def noted(source: ParquetSource, unit: Cut, columns: Sequence[str]) -> Any:
        ranges.append((unit.start, unit.stop))
        return whole(source, unit, columns)

    source, cuts = opened(tmp_path, where="n in (5, 7, 110, 4321, 9999)", unit_rows=1000)
    monkeypatch.setattr(ParquetSource, "read", noted)
    assert [cut.rows for cut in cuts] == [5]
    assert read(source, cuts) == [5, 7, 110, 4321, 9999]
    assert ranges == [(5, 111), (4321, 4322), (9999, 10_000)]
    _, dense = opened(tmp_path, where="lang = 'de'", unit_rows=1000)
    assert [cut.rows for cut in dense] == [1000, 1000]


def test_both_numbers_at_once_are_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path)
    with pytest.raises(UserError, match="sample: excludes limit"):
        opened(tmp_path, limit=3, sample=3)
