"""Recipes in the documentation: blocks of code under a comment, which are run as they stand.

    <!-- recipe: NAME -->               the block below is run: bash or python
    <!-- recipe: NAME, file a.csv -->   it is the content of this file, which is written
    <!-- recipe: NAME, output -->       it is what the block before printed to stdout
    <!-- recipe: NAME, long -->         as the first, and the recipe is for `make test-long`
    <!-- run by .ci/run -->             the block is one or more lines of CI's script

The blocks of one name belong to one page and run in their order in one folder. In an output, a line
`...` stands for lines that are left out, and times, rates and folders may differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODEL = "/path/to/gemma-3-4b-it"
"""Stands in recipes for a model that a reader has; they are run with the bundled one."""
MARK = re.compile(
    r"^<!-- recipe: (?P<name>[\w-]+)(?:, (?P<role>file \S+|output|long))? -->\n"
    r"```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
BY_CI = re.compile(
    r"^<!-- run by \.ci/run -->\n```bash\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)
VOLATILE = {
    "time": (r"\d{4}-\d\d-\d\dT[\d:+]+", r"\S+"),
    "rate": (r"[\d.,]+(?= rows/s)", r"[\d.,]+"),
    "seconds": (r"[\d.,]+(?= s\b)", r"[\d.,]+"),
    "row_key": (r"[0-9a-f]{20}(?=-\d{8})", r"[0-9a-f]{20}"),
    "probability": (r"0\.\d{8,}", r"0\.\d{6,}"),
    "rule": (r"[━─]{2,}", r"[━─]{2,}"),
    "padding": (r" +(?=[│┃])", r" +"),
    "centring": (r"^ {2,}", r" +"),
    "folder": (r"(?<![\w.])/(?:[\w.-]+/)+", r"/(?:\S+/)*"),
}
"""What may differ in an output, and the pattern in its place."""
ANY_VOLATILE = re.compile("|".join(f"(?P<{name}>{kind[0]})" for name, kind in VOLATILE.items()))
LEFT_OUT = "..."


@dataclass(frozen=True, kw_only=True)
class Block:
    """A block of a recipe; `role` is empty where it is run."""

    language: str
    role: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The blocks of one name, in order."""

    name: str
    page: Path
    blocks: Sequence[Block]

    @property
    def is_long(self) -> bool:
        """Whether it is left to `make test-long`."""
        return any(block.role == "long" for block in self.blocks)


def pages() -> list[Path]:
    """The README and the pages of the site that are written by hand."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def recipes() -> Iterator[Recipe]:
    """All recipes. Raises ValueError for a comment without a block, or a name on two pages."""
    seen: set[str] = set()
    for page in pages():
        text = page.read_text(encoding="utf-8")
        found = [*MARK.finditer(text)]
        if len(found) != text.count("<!-- recipe"):
            raise ValueError(f"{page.name}: a comment `<!-- recipe: ... -->` has no block below it")
        for name in dict.fromkeys(mark["name"] for mark in found):
            if name in seen:
                raise ValueError(f"{page.name}: another page has a recipe '{name}'")
            seen.add(name)
            blocks = [
                Block(language=mark["language"], role=mark["role"] or "", text=mark["text"])
                for mark in found
                if mark["name"] == name
            ]
            yield Recipe(name=name, page=page, blocks=blocks)


def lines_of_ci(text: str) -> list[str]:
    """The commands of a page that CI's script runs."""
    found = (block["text"] for block in BY_CI.finditer(text))
    return [line.partition("#")[0].strip() for text in found for line in text.splitlines()]


def differs(shown: str, printed: str) -> str | None:
    """The first line of an output in the documentation that was not printed; None if all were."""
    lines = iter(printed.splitlines())
    may_skip = False
    for line in shown.splitlines():
        if line.strip() == LEFT_OUT:
            may_skip = True
            continue
        pattern = _pattern(line)
        if may_skip:
            is_there = any(pattern.fullmatch(one.rstrip()) for one in lines)
        else:
            is_there = bool(pattern.fullmatch(next(lines, "").rstrip()))
        if not is_there:
            return line
        may_skip = False
    return None


def _pattern(line: str) -> re.Pattern[str]:
    pattern, end = "", 0
    for found in ANY_VOLATILE.finditer(line.rstrip()):
        pattern += re.escape(line[end : found.start()]) + VOLATILE[str(found.lastgroup)][1]
        end = found.end()
    return re.compile(pattern + re.escape(line.rstrip()[end:]))
