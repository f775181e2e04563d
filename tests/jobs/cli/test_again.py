"""The command that goes on with a run can be pasted, and has no secret in it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from jobs.cli.again import command_again

ARGUMENTS = ["caption", "my images", "out", "--where", "name = 'a b'", "--prompt", '$5 "now"']


def test_it_is_what_was_typed_quoted_for_a_shell() -> None:
    again = command_again(["/usr/bin/python3", "-m", "jobs", *ARGUMENTS])
    assert shlex.split(again) == ["/usr/bin/python3", "-m", "jobs", *ARGUMENTS]
    assert "'my images'" in again


@pytest.mark.parametrize(
    "own", [["-X", "dev"], ["-W", "ignore"], ["-P", "-Xdev", "-X", "utf8", "-W", "error"]]
)
def test_options_of_python_with_a_value_are_no_programs(own: list[str]) -> None:
    given = ["python3", *own, "-m", "jobs", *ARGUMENTS]
    assert shlex.split(command_again(given)) == given
    script = ["python3", *own, "/tmp/run.py", *ARGUMENTS]
    assert shlex.split(command_again(script)) == ["/tmp/run.py", *ARGUMENTS]


def test_a_command_that_the_shell_finds_goes_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "gemma3-batch"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    given = [sys.executable, "-P", str(script), *ARGUMENTS]
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert command_again(given).startswith(str(script))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert shlex.split(command_again(given)) == ["gemma3-batch", *ARGUMENTS]


@pytest.mark.parametrize(
    "secret",
    [
        ["--storage-options", '{"s3": {"secret": "abcdefgh"}}'],
        ['--storage-options={"s3": {"secret": "abcdefgh"}}'],
        ["--endpoint", "http://us:abcdefgh@host/v1"],
        ["--prompt", "the token is abcdefgh"],
    ],
)
def test_secrets_are_left_out(secret: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUR_TOKEN", "abcdefgh")
    again = command_again(["python", "-m", "jobs", "caption", "in", "out", *secret])
    assert "abcdefgh" not in again
    assert again.startswith("python -m jobs caption in out --")
