"""The public surface is what its snapshot says; what changed has its name in the changelog."""

from __future__ import annotations

from tests.release.changelog import CHANGELOG, Version, read
from tests.release.surface import RELEASED, SURFACE, lines, name_of

COMMENT = "#"


def written(path: object) -> list[str]:
    return [line for line in str(path).splitlines() if not line.startswith(COMMENT)]


def unmentioned(now: list[str], released: list[str], changelog: Version) -> list[str]:
    """The lines that were removed, added or changed and whose names the changelog lacks.

    Options and arguments of a command that came or went are left out: the command is named.
    """
    changed = sorted({*now} ^ {*released})
    commands = {line.split()[1] for line in changed if line.startswith("command ")}
    alone = [line for line in changed if not _is_of(line, commands)]
    return [line for line in alone if not changelog.names(name_of(line))]


def _is_of(line: str, commands: set[str]) -> bool:
    kind, name, *_ = line.split()
    return kind in ("option", "argument") and name in commands


def test_the_snapshot_is_what_the_code_has() -> None:
    assert lines() == written(SURFACE.read_text()), "run `make reference`"


def test_what_changed_since_the_last_release_is_in_the_changelog() -> None:
    now, released = written(SURFACE.read_text()), written(RELEASED.read_text())
    missing = unmentioned(now, released, read(CHANGELOG.read_text())[0])
    assert not missing, "the unreleased part of CHANGELOG.md does not name these (in backticks)"


def test_a_change_without_its_name_is_seen() -> None:
    released = ["option caption --style =", "outcome ok", "function jobs.push(output, target)"]
    now = ["option caption --style = alt", "outcome ok", "exit code 4 asleep"]
    now += ["command plan", "argument plan INPUT", "option plan --price = None"]
    text = "- `caption --style` is `alt` by default, and one may plan. `push_all` is new."
    said = Version(name="Unreleased", date=None, text=text)
    assert unmentioned(now, released, said) == [
        "command plan",
        "exit code 4 asleep",
        "function jobs.push(output, target)",
    ]
