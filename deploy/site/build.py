"""Builds the site into `build/site`: `python -m deploy.site.build` (`make docs`).

Fails on a link that leads nowhere, a page that no heading leads to, whatever Sphinx warns of, and a
page that would load something from elsewhere.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from sphinx.cmd.build import build_main

from deploy.site.nav import ROOT, files
from deploy.site.stage import BrokenLinkError, stage

PAGES = ROOT / "build" / "pages"
SITE = ROOT / "build" / "site"
STRICT = ("--fail-on-warning", "--keep-going", "--fresh-env", "--quiet")
LOADED = re.compile(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"(?:https?:)?//[^\"]+"
                    r"|<link\b[^>]*\bhref=\"(?:https?:)?//[^\"]+")  # fmt: skip


def build(site: Path = SITE) -> int:
    """Build the site. Returns the exit code, 0 where nothing is wrong."""
    try:
        stage(files(), PAGES)
    except BrokenLinkError as error:
        print(error, file=sys.stderr)
        return 1
    code = render(PAGES, site)
    remote = loaded_from_elsewhere(site) if code == 0 else []
    if remote:
        print("loaded from elsewhere:", *remote, sep="\n", file=sys.stderr)
        return 1
    if code == 0:
        print(f"The site: {site / 'index.html'} (opens without a server)")
    return code


def render(pages: Path, site: Path) -> int:
    """Let Sphinx make the site of staged pages. Returns its exit code; a warning is an error."""
    settings = ["-c", str(Path(__file__).parent), "-d", str(pages.with_name("doctrees"))]
    return build_main([*STRICT, *settings, "-b", "html", str(pages), str(site)])


def loaded_from_elsewhere(site: Path) -> list[str]:
    """What the pages would load from other servers, with the page; links are not loaded."""
    return [
        f"{page.name}: {found[0]}"
        for page in sorted(site.glob("**/*.html"))
        for found in LOADED.finditer(page.read_text(encoding="utf-8"))
    ]


if __name__ == "__main__":
    sys.exit(build())
