"""The help of every command, on terminals of 80 and of 120 columns."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from jobs.cli import app as cli
from jobs.cli.app import job_command
from jobs.options.common import default_text
from jobs.registry import JOBS

RUNS = (*JOBS, "run", "retry")
OTHERS = ("status", "errors", "calibrate", "push", "demo", "bench")


def help_of(*command: str, columns: int) -> list[str]:
    """The lines of a command's help."""
    done = CliRunner().invoke(cli.app, [*command, "--help"], env={"COLUMNS": str(columns)})
    assert done.exit_code == 0
    assert max(map(len, done.stdout.splitlines())) <= columns
    return done.stdout.splitlines()


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("job", [*JOBS])
def test_every_option_is_there_by_its_whole_name_and_with_its_default(
    job: str, columns: int
) -> None:
    lines = help_of(job, columns=columns)
    words = " ".join(" ".join(lines).split())
    first = {line.split()[0] for line in lines if line.startswith("  -")}
    assert first == {p.opts[0] for p in job_command(job).params if p.opts[0].startswith("-")} | {
        "--help"
    }
    for name, field in JOBS[job].options.model_fields.items():
        flag = "--" + name.replace("_", "-")
        assert f"{field.description}" in words, flag
        if default_text(field):
            assert f"{field.description} [default: {default_text(field)}]" in words, flag


@pytest.mark.parametrize("command", [*RUNS, *OTHERS])
def test_every_command_of_a_run_ends_with_the_exit_codes(command: str) -> None:
    lines = [line for line in help_of(command, columns=80) if line]
    codes = [line.split()[0] for line in lines[-5:]]
    assert (codes == ["0", "1", "2", "3", "130"]) == (command in RUNS)


@pytest.mark.parametrize("command", ["status", "errors", "retry", "calibrate", "push", *JOBS])
def test_every_command_over_a_store_takes_its_options(command: str) -> None:
    assert any(
        line.startswith("  --storage-options <str>") for line in help_of(command, columns=80)
    )


def test_the_commands_are_listed_in_full() -> None:
    lines = help_of(columns=80)
    assert "  caption    Caption every image or video of a dataset." in lines
    assert not [line for line in lines[1:] if "..." in line or "…" in line]
    assert CliRunner().invoke(cli.app, []).stdout.splitlines()[1:] == lines[1:]


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ("captoin a b", "no such command 'captoin', did you mean 'caption'; see {} --help"),
        ("caption a", "missing argument 'OUTPUT'; see {} caption --help"),
        ("caption a b", "missing option '--model'; see {} caption --help"),
        ("status a b", "got unexpected extra argument(s) (b); see {} status --help"),
        (
            "caption a b --model demo --promt x",
            "no such option: --promt, did you mean --prompt, --prompt-format, --prompts; see ",
        ),
        ("errors a --limit x", "invalid value for '--limit': input should be a valid integer, "),
        (
            "caption a b --model demo --dtype x",
            "invalid value for '--dtype': 'x' is not one of 'auto', 'float32', 'bfloat16'; see {}",
        ),
        ("status", "missing argument 'OUTPUT'; see {} status --help"),
        (
            "status a --storage-options x=1",
            'storage_options: should be arguments by protocol: {{"s3": {{"endpoint_url": "https:',
        ),
        ("status s3://", "OUTPUT s3://: names no bucket"),
        ("errors a --storage-options x", "storage_options: should be NAME=VALUE,... or a JSON ob"),
        (
            "retry a --outcome truncated --storage-options {x:secret",
            "storage_options: is not JSON: Expecting property name enclosed in double quotes: ",
        ),
        (
            'calibrate a --policy x --labels y --storage-options {"aws":{"key":"secret"}}',
            "storage_options: there is no store 'aws'; use s3, gs, abfs, hf, https, file",
        ),
    ],
)
def test_a_wrong_command_line_is_told_in_one_line(arguments: str, fault: str) -> None:
    done = CliRunner().invoke(cli.app, arguments.split(), prog_name="gemma3-batch")
    assert (done.exit_code, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("gemma3-batch: " + fault.format("gemma3-batch"))
    assert "secret" not in line
