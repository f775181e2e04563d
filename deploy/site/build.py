"""Builds the site into `build/site`: `python -m deploy.site.build` (`make docs`).

Fails on a link that leads nowhere, a page that no heading leads to, and whatever Sphinx warns of.
"""

from __future__ import annotations

import sys
from pathlib import Path

from sphinx.cmd.build import build_main

from deploy.site.nav import ROOT, files
from deploy.site.stage import BrokenLinkError, stage

PAGES = ROOT / "build" / "pages"
SITE = ROOT / "build" / "site"


def build(pages: Path = PAGES, site: Path = SITE) -> int:
    """Build the site. Returns the exit code, 0 where nothing is wrong.

    Args:
        pages: Where the pages are staged.
        site: The folder of the site.
    """
    try:
        stage(files(), pages)
    except BrokenLinkError as error:
        print(error, file=sys.stderr)
        return 1
    settings = Path(__file__).parent
    strict = ["--fail-on-warning", "--keep-going", "--fresh-env", "--quiet"]
    code = build_main([*strict, "-b", "html", "-c", str(settings), str(pages), str(site)])
    if code == 0:
        print(f"The site: {site / 'index.html'} (opens without a server)")
    return code


if __name__ == "__main__":
    sys.exit(build())
