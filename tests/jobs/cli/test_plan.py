"""The command `plan` and the question before a run."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from jobs.cli import app as cli
from jobs.cli import confirmation
from jobs.cli.exit_codes import exit_codes
from jobs.cli.plan_screen import amount, plan_screen
from jobs.registry import JOBS, find_model
from jobs.sdk.assembly import configure
from tests.jobs.forecast.made import forecast


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    pq.write_table(pa.table({"image": [b"x"], "n": [1]}), folder / "a.parquet")
    return folder


def shown(width: int = 80, **changed: Any) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(plan_screen(forecast(**changed)), highlight=False)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined,no-any-return]


def refused(*arguments: object) -> str:
    done = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    return done.stderr.strip().removeprefix("gemma3-batch: ")


def test_a_plan_is_one_screen_of_eighty_columns() -> None:
    lines = shown()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    for part in (
        "2,000 in 2 units; 2.0 % identical",
        "12 min (11 to 13 min) with 2 engines",
        "60 s to start, 20 s to fill the engines and to end",
        "3.1 rows/s",
        "0.40 (0.36 to 0.44); costs 1.20 (1.08 to 1.32) at 3 an hour",
        "the engine's capacity; it had all the requests that it takes 91% of the time",
        "540 k; a row has 270 (half up to 270, 95 % up to 271, 99 % up to 280, all up to 300)",
        "1.4 % (1.0 to 2.1), 20 to 42 rows",
        "decode: image file is truncated (84 bytes not processed)",
        "123 kB in 2 files",
        "400 rows in 95 s with 1 engine",
        "9.jpg a cat 9",
    ):
        assert part in text, text


@pytest.mark.parametrize(
    ("model", "called"),
    [
        (find_model("demo").path, "demo"),
        ("/models/gemma-3-4b-it", "gemma-3-4b-it"),
        ("/models/gemma-3-4b-it/", "gemma-3-4b-it"),
        ("google/gemma-3-4b-it", "gemma-3-4b-it"),
    ],
)
def test_a_plan_names_its_model(model: str, called: str) -> None:
    title, *_ = shown(model=model)
    assert title.rstrip().endswith(f" with {called}")


def test_what_rows_hold_is_neither_obeyed_nor_wrapped() -> None:
    row = {
        "path": "x" * 300,
        "caption": "[red]a\x1b[31m cat[/red]\n" + "y" * 100_000,
        "outcome": "ok",
        "error": None,
    }
    lines = shown(samples=[row] * 10, warnings=("w" * 200,))
    assert len(lines) <= 45
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert "[red]a\ufffd[31m cat[/red] yyy" in text
    assert "\x1b" not in text


def test_a_row_that_failed_says_why() -> None:
    row = {"path": "1.jpg", "caption": None, "outcome": "decode_error", "error": "no image"}
    assert any("decode_error: no image" in line for line in shown(samples=[row]))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 "), (999, "999 "), (1200, "1.2 k"), (2.5e8, "250 M"), (4e15, "4.0 P")],
)
def test_amounts_have_three_digits(value: float, text: str) -> None:
    assert amount(value) == text


def test_what_must_be_mended_is_said_before_anything_starts(dataset: Path, tmp_path: Path) -> None:
    out, demo = tmp_path / "out", ("--model", "demo")
    assert "did you mean 'caption'" in refused("plan", "captoin", dataset, out)
    assert "does not exist" in refused("plan", "caption", tmp_path / "absent", out, *demo)
    assert "no column 'imgae'" in refused(
        "plan", "caption", dataset, out, *demo, "--image-column", "imgae"
    )
    for name in ("job.yaml", "JOB.yaml"):  # the latter is what the help calls it
        for words in (("--replicas", 2, name), (name, "--replicas", 2)):
            assert refused("plan", *words) == f"{name} does not exist"
    assert "pilot-rows" in refused("plan", "caption", dataset, out, *demo, "--pilot-rows", 0)
    job = tmp_path / "job.yaml"
    job.write_text(f"job: caption\ninput: {dataset}\noutput: {out}\nmodel: demo\nlangage: fr\n")
    assert refused("plan", job).startswith(f"{job}:5: langage: ")
    assert {path.name for path in tmp_path.iterdir()} == {"in", "job.yaml"}


def test_every_job_has_a_plan_with_its_options() -> None:
    for name, job in JOBS.items():
        done = CliRunner().invoke(cli.app, ["plan", name, "--help"])
        assert done.exit_code == 0
        options = {f"--{option.replace('_', '-')}" for option in job.options.model_fields}
        options |= {"--pilot-rows", "--replicas", "--price", "--json"}
        words = {word.split("/")[0] for word in done.output.split()}
        assert options <= words


def test_without_a_terminal_nobody_is_asked(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    told = refused("caption", dataset, out, "--model", "demo", "--confirm")
    assert told.startswith("confirm: there is no terminal to ask at")
    job = tmp_path / "job.yaml"
    job.write_text(f"job: caption\ninput: {dataset}\noutput: {out}\nmodel: demo\n")
    assert "there is no terminal" in refused("run", job, "--confirm")
    assert not out.exists()


@pytest.mark.parametrize("is_kept", [True, False])
def test_a_run_waits_for_yes(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_kept: bool
) -> None:
    """The plan that is kept is shown; where there is none, one is made."""
    job = configure(JOBS["caption"], {"model": "demo"})
    made: list[str] = []
    answers = iter([True, False])

    def plan(*_: object, **__: object) -> object:
        made.append("plan")
        return forecast()

    for stream in ("stdin", "stderr"):
        monkeypatch.setattr(f"sys.{stream}.isatty", lambda: True, raising=False)
    monkeypatch.setattr(confirmation, "plan_job", plan)
    monkeypatch.setattr(confirmation, "kept_plan", lambda *_: forecast() if is_kept else None)
    monkeypatch.setattr(typer, "confirm", lambda *_, **__: next(answers))
    place = (str(dataset), str(tmp_path / "out"), False)
    confirmation.ask(job, *place)
    with pytest.raises(typer.Exit) as ended:
        confirmation.ask(job, *place)
    assert ended.value.exit_code == 130
    assert made == [] if is_kept else ["plan", "plan"]


@pytest.mark.parametrize(("ends", "text"), [(typer.Exit(130), ""), (typer.Abort(), "interrupted")])
def test_no_is_no_failure(ends: Exception, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended, exit_codes(debug=False):
        raise ends
    assert ended.value.exit_code == 130
    shown = capsys.readouterr().err
    assert text in shown
    assert bool(shown) == bool(text)
