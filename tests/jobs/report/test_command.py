"""The command `report`, as it is typed."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.cli.app import app
from tests.jobs.report.outputs import caption_task, image_rows, make_output


@pytest.fixture
def output(tmp_path: Path) -> str:
    source = image_rows(tmp_path / "in", 20)
    (tmp_path / "in" / "00000000.parquet").touch()
    return make_output(
        str(tmp_path / "captions"), caption_task(), source, lambda n: {"caption": f"{n}"}
    )


def test_it_writes_a_page_beside_nothing_else_and_says_where(
    output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    run = CliRunner().invoke(app, ["report", output])
    assert run.exit_code == 0, run.output
    assert [path.name for path in here.iterdir()] == ["captions-report.html"]
    assert "20 of 20 rows" in run.stdout
    assert "20 of them with their image" in run.stdout
    assert f"Report: {here}/captions-report.html" in run.stdout
    assert CliRunner().invoke(app, ["report", output, "--rows", "7"]).exit_code == 0
    assert "7 of 20 rows" in (here / "captions-report.html").read_text()


def test_missing_images_are_told_with_the_reason(output: str, tmp_path: Path) -> None:
    (tmp_path / "in" / "00000000.parquet").unlink()
    run = CliRunner().invoke(app, ["report", output, "--to", str(tmp_path / "r.html")])
    assert run.exit_code == 0, run.output
    assert "Without an image: 20, mostly because" in run.stdout


@pytest.mark.parametrize("arguments", [["nowhere"], ["{in}"], ["{out}", "--rows", "0"]])
def test_mistakes_end_with_2_and_one_line(
    output: str, tmp_path: Path, arguments: list[str]
) -> None:
    places = {"in": str(tmp_path / "in"), "out": output}
    run = CliRunner().invoke(app, ["report", *(each.format(**places) for each in arguments)])
    assert run.exit_code == 2
    assert run.stdout == ""
