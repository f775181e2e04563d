"""A shell completes commands, options and values, by the protocol that its script speaks."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.captioning.styles import STYLES
from jobs.cli import app as cli
from jobs.registry import JOBS
from pipeline import Outcome
from pipeline.contract.config import OUTPUT_FORMATS

MAIN = "from jobs.cli import main; import sys; sys.argv[0] = 'gemma3-batch'; main()"


def run(**environment: str) -> str:
    done = CliRunner().invoke(cli.app, [], prog_name="gemma3-batch", env=environment)
    assert (done.exit_code, done.stderr) == (0, "")
    return done.stdout


def bash(line: str) -> list[str]:
    """What bash is told for a line that ends where the cursor is."""
    words = line.split(" ")
    answer = run(
        _GEMMA3_BATCH_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=str(len(words) - 1)
    )
    return answer.split()


def test_bash_is_told_commands_and_options() -> None:
    found = bash("gemma3-batch ")
    assert {*JOBS, "run", "status", "retry"} <= {*found}
    assert bash("gemma3-batch sta") == ["status"]
    options = bash("gemma3-batch translate --t")
    assert {"--to", "--text-columns", "--tensor-parallel-size"} <= {*options}
    assert "--style" not in options


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("gemma3-batch caption a b --style ", [*STYLES]),
        ("gemma3-batch caption a b --output-format w", ["webdataset"]),
        ("gemma3-batch translate a b --output-format ", [*OUTPUT_FORMATS]),
        ("gemma3-batch moderate a b --dtype f", ["float32"]),
        ("gemma3-batch errors a --outcome ", [*Outcome]),
        ("gemma3-batch retry a --outcome tr", ["truncated"]),
        ("gemma3-batch caption a b --prompt ", []),  # then bash completes files by itself
    ],
)
def test_bash_is_told_values(line: str, values: list[str]) -> None:
    assert bash(line) == values


def test_zsh_and_fish_are_told_too() -> None:
    line = "gemma3-batch caption a b --style s"
    asked = {"_TYPER_COMPLETE_ARGS": line}
    assert '"sentence"' in run(_GEMMA3_BATCH_COMPLETE="complete_zsh", **asked)
    fish = {"_TYPER_COMPLETE_FISH_ACTION": "get-args", **asked}
    assert run(_GEMMA3_BATCH_COMPLETE="complete_fish", **fish).split() == ["sentence"]


def test_bash_itself_completes(tmp_path: Path) -> None:
    """The script that `--show-completion` prints, in a real bash."""
    if shutil.which("bash") is None:
        pytest.skip("there is no bash")
    program = tmp_path / "gemma3-batch"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{MAIN}" "$@"\n')
    program.chmod(0o755)
    script = run(_GEMMA3_BATCH_COMPLETE="source_bash")
    assert "complete -o default -F" in script
    asked = (
        f"{script}\nCOMP_WORDS=(gemma3-batch caption --sty)\nCOMP_CWORD=2\n"
        f'_gemma3_batch_completion {program}\necho "${{COMPREPLY[@]}}"'
    )
    done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["--style"]
