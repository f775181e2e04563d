"""What a Dockerfile says, as far as ours say it: stages, and in each its instructions in order.

Anything else (heredocs, build arguments, mounts of a RUN, ...) is refused rather than passed over.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

KNOWN = {"CMD", "COPY", "ENTRYPOINT", "ENV", "LABEL", "RUN", "USER", "WORKDIR"}


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """One instruction of a stage.

    Attributes:
        name: In capitals.
        text: What follows it, its lines joined.
        line: Where it begins, from 1.
    """

    name: str
    text: str
    line: int

    @property
    def words(self) -> list[str]:
        """Its arguments: of the JSON form as they stand, otherwise divided as a shell does."""
        if self.text.startswith("["):
            return [str(word) for word in json.loads(self.text)]
        return shlex.split(self.text)

    @property
    def assignments(self) -> dict[str, str]:
        """Of ENV or LABEL: the values by their names."""
        pairs = [word.partition("=") for word in self.words]
        assert all(equals for _, equals, _ in pairs), f"line {self.line}: NAME=VALUE is expected"
        return {name: value for name, _, value in pairs}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What is between two FROMs.

    Attributes:
        base: An image, or the name of an earlier stage.
        name: Its own; empty where it has none.
        instructions: In order.
    """

    base: str
    name: str
    instructions: tuple[Instruction, ...]

    def all_of(self, name: str) -> list[Instruction]:
        """Its instructions of one kind."""
        return [each for each in self.instructions if each.name == name]


def read(path: Path) -> list[Stage]:
    """The stages of a Dockerfile, in order."""
    stages: list[Stage] = []
    for each in _instructions(path.read_text()):
        if each.name == "FROM":
            base, *named = each.words
            assert not named or named[0] == "AS", f"line {each.line}: FROM {each.text}"
            stages.append(Stage(base=base, name="".join(named[1:]), instructions=()))
            continue
        assert each.name in KNOWN, f"line {each.line}: {each.name} is not understood"
        assert "<<" not in each.text, f"line {each.line}: a heredoc is not understood"
        before = stages.pop()
        instructions = (*before.instructions, each)
        stages.append(Stage(base=before.base, name=before.name, instructions=instructions))
    return stages


def _instructions(text: str) -> Iterator[Instruction]:
    lines = enumerate(text.splitlines(), 1)
    for number, line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        whole = line
        while whole.endswith("\\"):
            _, following = next(lines)
            if not following.lstrip().startswith("#"):
                whole = whole.removesuffix("\\") + following
        name, _, rest = whole.strip().partition(" ")
        yield Instruction(name=name.upper(), text=rest.strip(), line=number)


def expand(text: str, environment: dict[str, str]) -> str:
    """Put the environment's values in the place of `$NAME` and `${NAME}`."""
    names = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
    return names.sub(lambda found: environment.get(found[1] or found[2], ""), text)
