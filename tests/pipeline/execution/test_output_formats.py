"""Whole runs in each format of parts: killed and continued, retried, extended, with sidecars."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import RunConfig, UserError, failed_rows, retry, run, status
from pipeline.contract.task import Generation
from pipeline.engine.interface import Backend, Rendered
from pipeline.execution import assignment
from pipeline.output.sidecars import Sidecars
from tests.chaos.test_chaos import ray_address
from tests.pipeline.execution.test_run import config
from tests.pipeline.fakes import FAKE, POISON, ColourTask, FakeEngine, FakeRenderer
from tests.pipeline.sample_images import encoded, plain

pytestmark = pytest.mark.usefixtures("ray_cluster")
ROWS, UNIT_ROWS = 60, 10
START_SECONDS = 120


def colour(number: int) -> list[int]:
    return [number + 1, 7, 9]


def write_images(folder: Path, numbers: range, refused: tuple[int, ...] = ()) -> None:
    """An image for each number; the fake engine refuses some."""
    folder.mkdir(exist_ok=True)
    for number in numbers:
        shade = POISON if number in refused else (number + 1, 7, 9)
        (folder / f"{number:03}.png").write_bytes(encoded(plain(shade, (8, 8)), "PNG"))


class MendedEngine(FakeEngine):
    """Answers what the fake engine refuses."""

    async def generate(self, rendered: Rendered, key: str) -> Generation:
        _, (shade,) = rendered.prompt
        return Generation(" ".join(map(str, shade)), rendered.prompt_tokens, 3, "stop")


MENDED = Backend(name="fake", renderer=FakeRenderer, engine=MendedEngine)


def slow(settings: RunConfig) -> dict[str, Any]:
    """The same run with an engine that does two rows at once, as JSON."""
    engine = settings.engine.model_copy(update={"max_num_seqs": 2})
    return settings.model_copy(update={"engine": engine}).model_dump(mode="json")


def of_jsonl(part: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in part.read_text().splitlines()]


def of_csv(part: Path) -> list[dict[str, Any]]:
    with part.open(newline="") as file:
        rows: list[dict[str, Any]] = [*csv.DictReader(file, strict=True)]
    return [{**row, "colour": json.loads(row["colour"] or "null")} for row in rows]


def of_webdataset(part: Path) -> list[dict[str, Any]]:
    with tarfile.open(part) as tar:
        bodies = {m.name: tar.extractfile(m).read() for m in tar}  # type: ignore[union-attr]
    rows = [json.loads(body) for name, body in bodies.items() if name.endswith(".json")]
    for row in rows:
        key = row["path"].removesuffix(".png")
        assert f"{key}.png" in bodies or f"{key}.bin" in bodies
        assert json.loads(bodies.get(f"{key}.txt", b"null")) == row["colour"]
    return rows


READERS: dict[str, Callable[[Path], list[dict[str, Any]]]] = {
    "jsonl": of_jsonl,
    "csv": of_csv,
    "webdataset": of_webdataset,
}


def read_back(output: Path, form: str) -> list[dict[str, Any]]:
    """The rows of all parts, by somebody who knows nothing of us."""
    return [row for part in sorted(output.glob("part-*")) for row in READERS[form](part)]


def kill_a_run(settings: dict[str, Any], is_time: Callable[[], bool]) -> None:
    """A run in a process of its own, killed as soon as it is time."""
    driver = subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.attempt", json.dumps(settings)],
        env={**os.environ, "RAY_ADDRESS": ray_address()},
    )
    give_up = time.monotonic() + START_SECONDS
    while not is_time() and time.monotonic() < give_up:
        assert driver.poll() is None, "it ended before it was killed"
        time.sleep(0.02)
    driver.kill()
    driver.wait()


@pytest.mark.parametrize(
    "form", ["webdataset", *(pytest.param(f, marks=pytest.mark.long) for f in ("jsonl", "csv"))]
)
def test_a_run_that_is_killed_has_each_row_once(
    tmp_path: Path, gemma_folder: Path, form: str
) -> None:
    write_images(tmp_path / "in", range(ROWS), refused=(3,))
    out = tmp_path / "out"
    fields: dict[str, Any] = {"unit_rows": UNIT_ROWS, "output_format": form, "block_rows": 4}
    settings = config(tmp_path / "in", out, gemma_folder, **fields)
    kill_a_run(slow(settings), lambda: len([*out.glob("part-*")]) >= 2)
    killed = status(str(out))
    assert 2 * UNIT_ROWS <= killed.rows_done < ROWS
    assert len(read_back(out, form)) >= killed.rows_done  # whole parts only, whenever it is read

    result = run(settings, ColourTask(), backend=FAKE)
    assert (result.rows, result.outcomes) == (ROWS, {"ok": ROWS - 1, "engine_error": 1})
    rows = read_back(out, form)
    assert [row["path"] for row in rows] == [f"{number:03}.png" for number in range(ROWS)]
    due = [None if number == 3 else colour(number) for number in range(ROWS)]
    assert [row["colour"] for row in rows] == due
    assert len({row["row_key"] for row in rows}) == ROWS
    assert result.table(["colour"])["colour"].to_pylist() == due

    failed = [row for table in failed_rows(str(out)) for row in table.to_pylist()]
    assert [(row["path"], row["outcome"]) for row in failed] == [("003.png", "engine_error")]
    before = {part: part.read_bytes() for part in out.glob("part-*")}
    mended = retry(settings, ColourTask(), ["engine_error"], backend=MENDED)
    assert (mended.new_rows, mended.outcomes) == (1, {"ok": ROWS})
    changed = [part for part, body in before.items() if part.read_bytes() != body]
    assert [part.name[:13] for part in changed] == ["part-00000000"]
    write_images(tmp_path / "in", range(ROWS, ROWS + 5))
    extended = run(settings, ColourTask(), backend=FAKE)
    assert (extended.rows, extended.outcomes) == (ROWS + 5, {"ok": ROWS + 5})
    assert {row["path"] for row in read_back(out, form)} == {f"{n:03}.png" for n in range(ROWS + 5)}
    assert run(settings, ColourTask(), backend=FAKE).new_rows == 0


def test_a_run_keeps_its_format(tmp_path: Path, gemma_folder: Path) -> None:
    write_images(tmp_path / "in", range(4))
    settings = config(tmp_path / "in", tmp_path / "out", gemma_folder)
    run(settings, ColourTask(), backend=FAKE)
    record = tmp_path / "out/_gemma3_batch/run.json"
    older = json.loads(record.read_text())
    for name in ("output_format", "sidecars", "overwrite_sidecars"):  # as versions before had it
        del older["config"][name]
    record.write_text(json.dumps(older))
    assert run(settings, ColourTask(), backend=FAKE).new_rows == 0
    other = settings.model_copy(update={"output_format": "jsonl"})
    with pytest.raises(UserError, match=r"output_format: 'parquet', now 'jsonl'\); name a new"):
        run(other, ColourTask(), backend=FAKE)


def test_what_a_format_cannot_hold_is_told_before_anything_starts(
    tmp_path: Path, gemma_folder: Path
) -> None:
    write_images(tmp_path / "in", range(1))
    fields: dict[str, Any] = {"output_format": "csv", "keep_images": True}
    settings = config(tmp_path / "in", tmp_path / "out", gemma_folder, **fields)
    with pytest.raises(UserError, match="csv cannot hold column 'image', which is binary; leave"):
        run(settings, ColourTask(), backend=FAKE)
    assert not (tmp_path / "out").exists()


def sidecars(folder: Path) -> dict[str, Any]:
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("*.txt")}


@pytest.mark.long
def test_sidecars_are_there_after_a_run_that_was_killed(
    tmp_path: Path, gemma_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path / "in", range(ROWS), refused=(3,))
    out = tmp_path / "out"
    fields: dict[str, Any] = {"unit_rows": UNIT_ROWS, "sidecars": True, "block_rows": 4}
    settings = config(tmp_path / "in", out, gemma_folder, **fields)
    kill_a_run(slow(settings), lambda: len(sidecars(tmp_path / "in")) >= UNIT_ROWS)
    killed = status(str(out)).rows_done
    assert killed < ROWS
    result = run(settings, ColourTask(), backend=FAKE)
    due = {f"{number:03}": colour(number) for number in range(ROWS) if number != 3}
    assert sidecars(tmp_path / "in") == due
    assert result.rows == ROWS

    with monkeypatch.context() as patched:  # a retry that is killed between part and sidecars
        patched.setattr(Sidecars, "write_lacking", lambda *_: (_ for _ in ()).throw(SystemExit))
        patched.setattr(assignment, "_with_sidecars", lambda _, own: own)
        with pytest.raises(SystemExit):
            retry(settings, ColourTask(), ["engine_error"], backend=MENDED)
    assert status(str(out)).outcomes == {"ok": ROWS}
    assert sidecars(tmp_path / "in") == due
    assert run(settings, ColourTask(), backend=FAKE).new_rows == 0  # writes what was missing
    assert sidecars(tmp_path / "in") == {**due, "003": [*POISON]}


def test_sidecars_may_be_asked_for_later(tmp_path: Path, gemma_folder: Path) -> None:
    write_images(tmp_path / "in", range(4))
    (tmp_path / "in/002.txt").write_text('"mine"')
    settings = config(tmp_path / "in", tmp_path / "out", gemma_folder)
    run(settings, ColourTask(), backend=FAKE)
    assert sidecars(tmp_path / "in") == {"002": "mine"}
    asked = settings.model_copy(update={"sidecars": True})
    with pytest.raises(UserError, match=r"1 \.txt files lie beside images already \(002\.txt\)"):
        run(asked, ColourTask(), backend=FAKE)
    bold = asked.model_copy(update={"overwrite_sidecars": True})
    assert run(bold, ColourTask(), backend=FAKE).new_rows == 0
    assert sidecars(tmp_path / "in") == {f"{number:03}": colour(number) for number in range(4)}
