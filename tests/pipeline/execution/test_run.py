"""Whole runs on Ray, with a fake engine: load, order and faults."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import os
import random
import socket
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from ray.data import DataContext
from rich.console import Console

from pipeline import EngineConfig, RunConfig, RunError, RunResult, UserError, run
from pipeline.contract.task import Generation, Result
from pipeline.engine.interface import Backend, Rendered
from pipeline.output import journal
from pipeline.storage import atomic
from pipeline.storage.location import Location
from tests.pipeline.fakes import (
    ANSWERED,
    DEADLY,
    FAKE,
    POISON,
    SLOW_FAKE,
    ColourTask,
    FakeEngine,
    FakeRenderer,
)
from tests.pipeline.sample_images import bomb_png, encoded, plain, truncated_jpeg

BAD: dict[str, tuple[object, str]] = {
    "broken": (b"\x00broken", "decode_error"),
    "empty": (b"", "decode_error"),
    "truncated": (truncated_jpeg(), "decode_error"),
    "bomb": (bomb_png(), "decode_error"),
    "null": (None, "missing_input"),
    "poison": (encoded(plain(POISON), "PNG"), "engine_error"),
}


def config(input_: Path, output: Path, model: Path, **fields: Any) -> RunConfig:
    engine = EngineConfig(model=str(model), max_num_seqs=16)
    return RunConfig(input=str(input_), output=str(output), engine=engine, **fields)


def colours_dataset(folder: Path, rows: int, bad_share: float = 0.0) -> list[dict[str, Any]]:
    """Parquet files of images of one colour each; gives back what should come out."""
    draw = random.Random(7)
    records = []
    for number in range(rows):
        colour = tuple(draw.randrange(1, 255) for _ in range(3))
        record = {"n": number, "image": encoded(plain(colour, (8, 8)), "PNG"), "outcome": "ok"}
        record["colour"] = [*colour]
        if draw.random() < bad_share:
            body, outcome = BAD[draw.choice([*BAD])]
            record.update(image=body, outcome=outcome, colour=None)
        records.append(record)
    folder.mkdir()
    for part, start in enumerate(range(0, rows, 150)):
        table = pa.table(
            {
                "n": pa.array([r["n"] for r in records[start : start + 150]], pa.int16()),
                "image": pa.array([r["image"] for r in records[start : start + 150]], pa.binary()),
            }
        )
        pq.write_table(table, folder / f"{part:03}.parquet", row_group_size=40)
    return records


def read_back(output: Path) -> pa.Table:
    return ds.dataset(output).to_table()


@pytest.mark.usefixtures("ray_cluster")
class TestRuns:
    def test_every_row_comes_out_once_in_order_with_its_own_answer(
        self, tmp_path: Path, gemma_folder: Path
    ) -> None:
        records = colours_dataset(tmp_path / "in", 700, bad_share=0.1)
        out = tmp_path / "out"
        settings = config(tmp_path / "in", out, gemma_folder, unit_rows=100, render_workers=2)
        result = run(settings, ColourTask(), backend=FAKE)
        table = read_back(out)
        for column in ("n", "outcome", "colour"):
            assert table[column].to_pylist() == [record[column] for record in records]
        assert len({*table["row_key"].to_pylist()}) == len(records)
        for row in table.to_pylist():
            assert (row["error"] is None) == (row["outcome"] == "ok")
            assert (row["output_tokens"] is None) == (row["outcome"] != "ok")
        expected = Counter(record["outcome"] for record in records)
        assert (result.rows, Counter(result.outcomes)) == (700, expected)
        assert len(expected) == 4
        assert result.model_class == FakeEngine.model_class
        record = json.loads((out / "_gemma3_batch/run.json").read_text())
        assert (record["rows"], record["outcomes"]) == (700, dict(result.outcomes))
        assert record["settings"] == {"prompt": "Which colour?"}
        assert not (out / "_gemma3_batch/journal").exists()

    def test_an_input_of_bad_rows_alone_is_accounted_for(
        self, tmp_path: Path, gemma_folder: Path
    ) -> None:
        (tmp_path / "in").mkdir()
        pq.write_table(pa.table({"image": [b"", b"x", None]}), tmp_path / "in/a.parquet")
        settings = config(tmp_path / "in", tmp_path / "out", gemma_folder)
        result = run(settings, ColourTask(), backend=FAKE)
        assert result.outcomes == {"decode_error": 2, "missing_input": 1}
        assert result.model_class is None
        assert read_back(tmp_path / "out")["colour"].to_pylist() == [None] * 3

    def test_a_folder_of_images(self, tmp_path: Path, gemma_folder: Path) -> None:
        (tmp_path / "in/sub").mkdir(parents=True)
        for name, colour in {"b.png": (1, 2, 3), "sub/a.png": (4, 5, 6)}.items():
            (tmp_path / "in" / name).write_bytes(encoded(plain(colour), "PNG"))
        (tmp_path / "in/bad.jpg").write_bytes(b"not one")
        settings = config(tmp_path / "in", tmp_path / "out", gemma_folder)
        run(settings, ColourTask(), backend=FAKE)
        table = read_back(tmp_path / "out")
        assert table["path"].to_pylist() == ["b.png", "bad.jpg", "sub/a.png"]
        assert table["colour"].to_pylist() == [[1, 2, 3], None, [4, 5, 6]]

    @pytest.mark.long  # of all kinds: tests/chaos/test_poison.py
    def test_a_row_that_kills_engines_is_found_and_costs_no_other(
        self, tmp_path: Path, gemma_folder: Path
    ) -> None:
        records = colours_dataset(tmp_path / "in", 90)
        deadly = pa.table(
            {"n": pa.array([0], pa.int16()), "image": [encoded(plain(DEADLY), "PNG")]}
        )
        pq.write_table(deadly, tmp_path / "in/zzz.parquet")
        out = tmp_path / "out"
        settings = config(tmp_path / "in", out, gemma_folder, unit_rows=10, block_rows=10)
        result = run(settings, ColourTask(), backend=FAKE)
        assert result.outcomes == {"ok": 90, "engine_error": 1}
        table = read_back(out)
        assert table["colour"].to_pylist() == [*(r["colour"] for r in records), None]
        assert table["error"].to_pylist()[-1] == (
            "generate: the process died or hung 3 times while it worked on this row alone"
        )

    def test_an_engine_that_is_slow_is_waited_for(
        self, tmp_path: Path, gemma_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Ray Data would give the run up."""
        context = DataContext.get_current()
        monkeypatch.setattr(context, "execution_no_progress_timeout_s", 0.5)
        records = colours_dataset(tmp_path / "in", 8)
        settings = config(tmp_path / "in", tmp_path / "out", gemma_folder)
        run(
            settings,
            ColourTask(),
            backend=Backend(name="fake", renderer=FakeRenderer, engine=UnhurriedEngine),
        )
        assert read_back(tmp_path / "out")["colour"].to_pylist() == [r["colour"] for r in records]
        assert context.execution_no_progress_timeout_s == 0.5

    def test_an_engine_that_does_not_start_leaves_nothing(
        self, tmp_path: Path, gemma_folder: Path
    ) -> None:
        colours_dataset(tmp_path / "in", 10)
        settings = config(tmp_path / "in", tmp_path / "out", gemma_folder)
        with pytest.raises(
            RunError,
            match=r"^the engine did not start: OSError: no such device(\nEngine log: .+)?$",
        ):
            run(
                settings,
                ColourTask(),
                backend=Backend(name="fake", renderer=FakeRenderer, engine=StillbornEngine),
            )
        assert not (tmp_path / "out").exists()
        with pytest.raises(UserError, match=r"^engine_args: cannot be that$"):
            run(
                settings,
                ColourTask(),
                backend=Backend(name="fake", renderer=ChoosyRenderer, engine=FakeEngine),
            )
        assert not (tmp_path / "out").exists()

    def test_a_full_disk_ends_the_run_at_once_and_it_is_finished_later(
        self, tmp_path: Path, gemma_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import ray

        remote, exports = ray.remote, []
        monkeypatch.setattr(ray, "remote", lambda *a, **k: exports.append(a) or remote(*a, **k))
        records = colours_dataset(tmp_path / "in", 1200)
        settings = config(tmp_path / "in", tmp_path / "out", gemma_folder, unit_rows=50)
        full = tmp_path / "full"
        full.touch()
        told = r"^OUTPUT \S+/out cannot be written to: OSError: \[Errno 28\] .*\n.*free some space"
        with pytest.raises(RunError, match=told):
            run(settings, FullDisk(full=str(full)), backend=SLOW_FAKE)
        generated = len(Path(f"{gemma_folder}{ANSWERED}").read_bytes())
        assert generated < 600, "rows were computed for nothing"
        full.unlink()
        exports.clear()
        result = run(settings, FullDisk(full=str(full)), backend=SLOW_FAKE)
        assert result.rows == 1200
        assert read_back(tmp_path / "out")["colour"].to_pylist() == [r["colour"] for r in records]
        assert len(exports) < 10, "Ray keeps a function for each commit"

    def test_a_task_that_cannot_be_sent_to_the_workers_leaves_nothing(
        self, tmp_path: Path, gemma_folder: Path
    ) -> None:
        colours_dataset(tmp_path / "in", 3)
        settings = config(tmp_path / "in", tmp_path / "out", gemma_folder)
        with pytest.raises(UserError, match=r"^task 'colour' cannot be sent .*cannot pickle.*lock"):
            run(settings, Locked(), backend=FAKE)
        assert not (tmp_path / "out").exists()

    def test_progress_is_shown_in_lines_where_there_is_no_terminal(
        self, tmp_path: Path, gemma_folder: Path
    ) -> None:
        colours_dataset(tmp_path / "in", 20)
        console = Console(file=io.StringIO(), force_terminal=False)
        settings = config(tmp_path / "in", tmp_path / "out", gemma_folder)
        result: RunResult = run(settings, ColourTask(), backend=FAKE, console=console)
        assert result.rows == 20
        shown = console.file.getvalue()  # type: ignore[attr-defined]
        assert "colour: 20 of 20 rows" in shown
        assert "\x1b" not in shown


@dataclass(frozen=True)
class FullDisk(ColourTask):
    """Fills the disk of OUTPUT, as far as the process that parses can see."""

    full: str = ""

    def result(self, state: object, generations: Sequence[Generation]) -> Result:
        journal.overwrite = self.overwrite  # type: ignore[assignment]
        return super().result(state, generations)

    def overwrite(self, where: Location, body: bytes, *, sync: bool = True) -> None:
        if os.path.exists(self.full):
            raise OSError(errno.ENOSPC, "No space left on device")
        atomic.overwrite(where, body, sync=sync)


class Locked(ColourTask):
    def __init__(self) -> None:
        super().__init__()
        object.__setattr__(self, "lock", threading.Lock())


class UnhurriedEngine(FakeEngine):
    async def generate(self, rendered: Rendered, key: str) -> Generation:
        await asyncio.sleep(3)
        return await super().generate(rendered, key)


class ChoosyRenderer(FakeRenderer):
    def __init__(self, config: EngineConfig) -> None:
        raise UserError("engine_args: cannot be that")


class StillbornEngine(FakeEngine):
    def __init__(self, config: EngineConfig) -> None:
        raise OSError("no such device")


def test_faults_of_the_user_are_found_before_anything_starts(
    tmp_path: Path, gemma_folder: Path
) -> None:
    import ray

    colours_dataset(tmp_path / "in", 3)
    out = tmp_path / "out"

    def refused(backend: Backend = FAKE, **changes: Path) -> str:
        paths = {"input_": tmp_path / "in", "output": out, "model": gemma_folder, **changes}
        started = ray.is_initialized()
        with pytest.raises(UserError) as error:
            run(config(**paths), ColourTask(), backend=backend)
        assert ray.is_initialized() == started
        assert not out.exists()
        return str(error.value)

    assert "does not exist" in refused(input_=tmp_path / "absent")
    assert "lies in INPUT" in refused(output=tmp_path / "in/out")
    assert "holds other files" in refused(output=tmp_path)
    assert "is a file" in refused(output=gemma_folder / "config.json")
    assert "is not a folder here" in refused(model=tmp_path / "absent")
    assert "cannot be that" in refused(replace(FAKE, check=ChoosyRenderer))
    pq.write_table(pa.table({"image": [b""], "error": ["x"]}), tmp_path / "clash.parquet")
    assert "a column 'error'" in refused(input_=tmp_path / "clash.parquet")
    text = json.loads((gemma_folder / "config.json").read_text())
    text["architectures"] = ["Gemma3ForCausalLM"]
    (gemma_folder / "config.json").write_text(json.dumps(text))
    assert "takes no images" in refused()


def test_output_is_tried_before_ray_starts_and_nothing_is_left_of_it(
    tmp_path: Path, gemma_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    colours_dataset(tmp_path / "in", 3)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    for single_driver, written_by in ((False, "create_from"), (True, "overwrite")):
        settings = config(
            tmp_path / "in", tmp_path / "out", gemma_folder, single_driver=single_driver
        )
        with monkeypatch.context() as patched:
            patched.delenv("RAY_ADDRESS", raising=False)
            patched.setattr(ray, "init", None)
            patched.setattr(atomic, written_by, denied)
            with pytest.raises(
                UserError, match=r"^OUTPUT \S+/out cannot be written to: Permission"
            ):
                run(settings, ColourTask(), backend=FAKE)
        assert not (tmp_path / "out").exists()
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(UserError, match=f"^RAY_ADDRESS={address}: no Ray cluster answers"):
            run(settings, ColourTask(), backend=FAKE)
        assert not (tmp_path / "out").exists()
