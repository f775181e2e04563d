"""Every `gemma3-batch` in the documentation is a command that there is, with its options."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

from jobs.cli.app import app
from tests.docs.recipes import ROOT, pages

CODE = re.compile(r"^```(?:bash|console)\n(.*?)^```$|^((?:    .*\n|\n)+)", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"(?:^|\s|\$ )(?:\.venv/bin/)?gemma3-batch (?P<rest>[a-z-]+(?: .*)?)$")
OTHERS = {"count-words", "JOB"}
"""A job of the reader's own; any job."""


def commands(text: str) -> Iterator[str]:
    """What stands after `gemma3-batch` in blocks of code, and alone between backticks."""
    for block in CODE.finditer(text):
        code = (block[1] or block[2] or "").replace("\\\n", " ")
        for line in code.splitlines():
            found = COMMAND.search(line)
            if found and not line.lstrip().startswith("#"):
                yield found["rest"]
    yield from re.findall(r"`gemma3-batch (\S[^`]*)`", text)


def faults(command: str) -> list[str]:
    """The options that the command does not have; its name, if there is no such command."""
    group: Any = typer.main.get_command(app)
    words = shlex.split(" ".join(command.split()), comments=True)
    if words[0] in OTHERS or words[0].startswith("-"):
        return []
    found = group.get_command(typer.Context(group), words[0])
    if found is None:
        return [words[0]]
    if isinstance(found, TyperGroup):  # it takes another: `plan caption INPUT OUTPUT`
        found = found.get_command(typer.Context(found), words[1])
        if found is None:
            return [words[1]]
    params = found.params
    known = {flag for one in params for flag in (*one.opts, *one.secondary_opts)} | {"--help"}
    return [word for word in words if word.startswith("--") and word.partition("=")[0] not in known]


FILES = [*pages(), ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("deploy/**/*.yaml"))]


@pytest.mark.parametrize("page", FILES, ids=lambda page: page.name)
def test_commands_and_their_options_exist(page: Path) -> None:
    wrong = {one: faults(one) for one in commands(page.read_text()) if faults(one)}
    assert not wrong


def test_a_wrong_one_is_seen() -> None:
    text = "```bash\ngemma3-batch caption a b --model demo \\\n    --promt x\n```\n\n"
    text += "`gemma3-batch captoin x`\n"
    assert [*commands(text)] == ["caption a b --model demo      --promt x", "captoin x"]
    assert faults("caption a b --promt x --style=alt") == ["--promt"]
    assert faults("captoin a b") == ["captoin"]
    assert faults("plan caption a b --replicas 2 --prize 3") == ["--prize"]
    assert faults("plan captoin a b") == ["captoin"]
