"""The changelog keeps the form of Keep a Changelog, and knows the version of the package."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.release.changelog import CHANGELOG, read

ROOT = Path(__file__).parents[2]
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_the_form() -> None:
    first, *released = read(CHANGELOG.read_text())
    assert (first.name, first.date) == ("Unreleased", None)
    assert all(version.date for version in released)
    numbers = [[int(part) for part in version.name.split(".")] for version in released]
    assert numbers == sorted(numbers, reverse=True)
    for version in (first, *released):
        kinds = re.findall(r"^### (.*)$", version.text, re.MULTILINE)
        assert len(kinds) == len({*kinds}), f"{version.name} has a heading twice"
        assert {*kinds} <= KINDS, version.name


def test_the_packages_version_is_there_or_to_come() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    unreleased, *released = read(CHANGELOG.read_text())
    names = [version.name for version in released]
    assert project["version"] in names or unreleased.text.strip(), project["version"]
    assert not names or project["version"] >= names[0]


def test_a_wrong_heading_is_seen() -> None:
    with pytest.raises(ValueError, match=r"1\.0 \(today\)"):
        read("## [Unreleased]\n\n## 1.0 (today)\n")
