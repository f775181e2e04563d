"""Lays the pages into one folder for Sphinx, with links that lead from page to page.

A link in the repository leads to a file. If the site shows that file, it leads to its page; any
other file of the repository is not a part of the site, so there the link's text stays, and leads to
`SOURCE_URL` if that is set (`https://host/owner/repository/blob/main`). A link to nothing is a
fault.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from deploy.site.nav import INDEX, NAV, ROOT

SOURCE_URL = "SOURCE_URL"
LINK = re.compile(r"(?P<text>!?\[(?:[^\[\]]|\[[^\]]*\])*\])\((?P<target>[^()\s]+)\)", re.DOTALL)
ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|#")
FENCED = re.compile(r"^(?P<fence>`{3,}|~{3,}).*?^(?P=fence)", re.DOTALL | re.MULTILINE)


class BrokenLinkError(Exception):
    """Links that lead to no file; one line for each, with the file that has it."""


def stage(pages: Mapping[str, Path], folder: Path) -> None:
    """Write all pages, and what else lies in `docs/`, into a new folder.

    Args:
        pages: The file of each page, by the page's name.
        folder: The folder; what is there is removed.

    Raises:
        BrokenLinkError: A link leads to a file that does not exist.
    """
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "docs", folder, ignore=shutil.ignore_patterns("*.md"))
    faults: list[str] = []
    for name, file in pages.items():
        text = linked(file.read_text(encoding="utf-8"), file, pages, faults)
        text += contents(pages) if name == INDEX else ""
        (folder / f"{name}.md").write_text(text, encoding="utf-8")
    unknown = sorted({*(ROOT / "docs").glob("*.md")} - {*pages.values()})
    faults += [
        f"{file.relative_to(ROOT)}: no heading of deploy/site/nav.py has it" for file in unknown
    ]
    if faults:
        raise BrokenLinkError("\n".join(faults))


def linked(text: str, file: Path, pages: Mapping[str, Path], faults: list[str]) -> str:
    """The text of a page with its links as the site has them; what leads nowhere joins `faults`."""
    names = {path: name for name, path in pages.items()}

    def link(found: re.Match[str]) -> str:
        target = found["target"]
        if ELSEWHERE.match(target):
            return found[0]
        path, hash_, anchor = target.partition("#")
        place = (file.parent / path).resolve()
        page = names.get(place) or names.get(place / "README.md")
        if page:
            return f"{found['text']}({page}.md{hash_}{anchor})"
        if not place.is_relative_to(ROOT) or not place.exists():
            faults.append(
                f"{file.relative_to(ROOT)}: a link leads to {target}, which does not exist"
            )
        if found["text"].startswith("!"):
            return f"{found['text']}({place.relative_to(ROOT / 'docs')})"
        return _source(found["text"], place)

    return "".join(part if is_code else LINK.sub(link, part) for is_code, part in _parts(text))


def contents(pages: Mapping[str, Path]) -> str:
    """The index's tables of contents, in MyST's form; they are the site's navigation."""
    there = {heading: filter(pages.__contains__, names) for heading, names in NAV.items()}
    return "".join(
        f"\n```{{toctree}}\n:caption: {heading}\n:hidden:\n\n" + "\n".join(names) + "\n```\n"
        for heading, names in there.items()
    )


def _source(text: str, place: Path) -> str:
    url = os.environ.get(SOURCE_URL)
    return f"{text}({url}/{place.relative_to(ROOT)})" if url else text[1:-1]


def _parts(text: str) -> Iterator[tuple[bool, str]]:
    """The text in pieces, and whether each is a fenced block of code."""
    end = 0
    for block in FENCED.finditer(text):
        yield False, text[end : block.start()]
        yield True, block[0]
        end = block.end()
    yield False, text[end:]
