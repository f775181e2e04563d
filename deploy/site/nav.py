"""Decides which pages the site has: their headings, order, names and files.

Every Markdown file in `docs/` must be here; Sphinx refuses one that no heading leads to.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
INDEX: Final = "index"
NAV: Final[dict[str, tuple[str, ...]]] = {
    "Start": ("quick-start", "install", "cost"),
    "Jobs": ("caption", "translate", "moderate", "answers", "own-job"),
    "Data": ("data-in", "slices", "results"),
    "Running": (
        "plan",
        "terminal",
        "continue",
        "review",
        "models",
        "job-files",
        "clusters",
        "security",
        "metrics",
        "server",
        "python",
        "errors",
    ),
    "Reference": ("commands", "options", "promises", "changelog"),
    "How it works": ("how-it-works", "way-of-a-row", "gemma3", "demo-model"),
    "Numbers": ("performance", "gpu-results"),
    "Working on it": ("contributing",),
}
"""The names of the pages under each heading."""
ELSEWHERE: Final = {
    "commands": "jobs/cli/README.md",
    "options": "jobs/options/README.md",
    "promises": "pipeline/output/README.md",
    "way-of-a-row": "pipeline/README.md",
    "demo-model": "jobs/demo/checkpoint/README.md",
    "gpu-results": "tests/gpu/RESULTS.md",
    "contributing": "CONTRIBUTING.md",
    "changelog": "CHANGELOG.md",
}
"""The files of pages that do not lie in `docs/`."""


def files() -> dict[str, Path]:
    """The file of each page, by the page's name."""
    names = [INDEX, *(name for names in NAV.values() for name in names)]
    return {name: ROOT / ELSEWHERE.get(name, f"docs/{name}.md") for name in names}
