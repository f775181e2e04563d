"""A Chromium that is installed already, driven by playwright, and axe-core to look at pages with.

Where one of them is missing the tests are skipped, or fail if `GEMMA3_BATCH_NEEDS_BROWSER` is 1.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OPTIONS = (
    "--no-sandbox",  # as root it has none
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
)
WIDTHS = (390, 1400)
OVERLAPS = """() => {
  const boxes = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, parent = node.parentElement;
    if (!node.data.trim() || /^(SCRIPT|STYLE|OPTION|TITLE)$/i.test(parent.tagName)) continue;
    if (!parent.checkVisibility({ contentVisibilityAuto: true })) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const box of range.getClientRects()) {
      if (box.width && box.bottom > 0 && box.top < innerHeight) boxes.push([node, box]);
    }
  }
  const found = [];
  for (let a = 0; a < boxes.length; a++) for (let b = a + 1; b < boxes.length; b++) {
    const [one, x] = boxes[a], [other, y] = boxes[b];
    if (one === other) continue;
    const wide = Math.min(x.right, y.right) - Math.max(x.left, y.left);
    const high = Math.min(x.bottom, y.bottom) - Math.max(x.top, y.top);
    if (wide > 2 && high > 6) found.push(`${one.data.slice(0, 40)} | ${other.data.slice(0, 40)}`);
  }
  return { found, count: boxes.length, wide: document.documentElement.scrollWidth - innerWidth };
}"""
"""Texts that lie over each other in what is on the screen. Boxes of lines reach a few pixels beyond
their letters, so those that touch are none."""


def executable() -> str | None:
    """Where Chromium is; None if it is nowhere."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


def missing() -> str | None:
    """What is missing for tests in a browser; None if nothing is."""
    if executable() is None:
        return "no Chromium is installed (Debian: apt-get install chromium)"
    try:
        import axe_playwright_python.sync_playwright  # noqa: F401
    except ImportError:
        return "axe-playwright-python is not installed (it is in the group `dev`)"
    return None


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for a file's tests."""
    why = missing()
    if why is not None:
        if os.environ.get("GEMMA3_BATCH_NEEDS_BROWSER") == "1":
            pytest.fail(why)
        pytest.skip(why)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=executable(), args=[*OPTIONS])
        yield found
        found.close()


def opened(browser: Browser, file: Path, width: int, scheme: Any = "light") -> Page:
    """A page that a file is open in; it counts requests that are not for that file, and faults."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.set_default_timeout(60_000)
    page.faults = []  # type: ignore[attr-defined]
    note = page.faults.append  # type: ignore[attr-defined]
    page.on("pageerror", lambda error: note(f"error: {error}"))
    page.on("dialog", lambda dialog: (note(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("console", lambda said: said.type == "error" and note(f"console: {said.text}"))
    page.on(
        "request",
        lambda asked: (
            asked.url.startswith(("data:", file.as_uri())) or note(f"request: {asked.url[:200]}")
        ),
    )
    page.goto(file.as_uri())
    return page


def serious(page: Page) -> list[str]:
    """What axe finds that is serious or worse."""
    from axe_playwright_python.sync_playwright import Axe

    # The page's policy lets no script in but its own; axe comes from outside.
    found = Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {each['nodes'][0]['html'][:200]}; {each['nodes'][0]['failureSummary']}"
        for each in found
        if each["impact"] in ("serious", "critical")
    ]
