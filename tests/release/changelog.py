"""The changelog as data: its versions, and what each says under which heading."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

CHANGELOG = Path(__file__).parents[2] / "CHANGELOG.md"
HEADING = re.compile(r"^## (?P<title>.*)$", re.MULTILINE)
VERSION = re.compile(r"\[(?P<name>Unreleased|\d+\.\d+\.\d+)\](?: - (?P<date>\d{4}-\d{2}-\d{2}))?")
CODE = re.compile(r"`([^`]+)`")


@dataclass(frozen=True, kw_only=True)
class Version:
    """One version of the changelog; `date` is None where it is not released."""

    name: str
    date: str | None
    text: str

    def names(self, name: str) -> bool:
        """Whether a public name stands in the text, as code; an exit code as text."""
        word = re.compile(rf"(?<![\w-]){re.escape(name)}(?![\w-])")
        if name.startswith("exit code"):
            return bool(word.search(" ".join(self.text.split())))
        return any(word.search(code) for code in CODE.findall(self.text))


def read(text: str) -> list[Version]:
    """The versions, as they stand. Raises ValueError where a heading is not one."""
    versions = []
    headings = [*HEADING.finditer(text)]
    ends = [*(one.start() for one in headings[1:]), len(text)]
    for heading, end in zip(headings, ends, strict=True):
        found = VERSION.fullmatch(heading["title"])
        if found is None:
            raise ValueError(f"'## {heading['title']}' should be '## [1.2.3] - 2026-01-31'")
        part = text[heading.end() : end]
        versions.append(Version(name=found["name"], date=found["date"], text=part))
    return versions
