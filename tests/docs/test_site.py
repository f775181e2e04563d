"""The site: links lead from page to page, and nothing that leads nowhere gets through."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.site import build, stage
from deploy.site.nav import ROOT, files
from deploy.site.stage import BrokenLinkError, linked

PAGE = ROOT / "docs/caption.md"


def links(text: str, file: Path = PAGE) -> tuple[str, list[str]]:
    faults: list[str] = []
    return linked(text, file, files(), faults), faults


@pytest.mark.parametrize(
    ("text", "on_the_site"),
    [
        ("[in](data-in.md)", "[in](data-in.md)"),
        (
            "[`all`\nof them](../jobs/options/README.md#caption)",
            "[`all`\nof them](options.md#caption)",
        ),
        ("[a](#here) [b](https://example.com/x.md)", "[a](#here) [b](https://example.com/x.md)"),
        ("see [pipeline/engine](../pipeline/engine/__init__.py).", "see pipeline/engine."),
        ("![x](images/way-of-a-row.svg)", "![x](images/way-of-a-row.svg)"),
        ("```bash\n[a](nothing.md)\n```\n", "```bash\n[a](nothing.md)\n```\n"),
    ],
)
def test_a_link(text: str, on_the_site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(stage.SOURCE_URL, raising=False)
    assert links(text) == (on_the_site, [])


def test_a_link_to_a_file_that_is_no_page_leads_to_the_source_where_that_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(stage.SOURCE_URL, "https://host/us/blob/main")
    text, _ = links("[engine](../pipeline/engine/__init__.py)")
    assert text == "[engine](https://host/us/blob/main/pipeline/engine/__init__.py)"


@pytest.mark.parametrize("target", ["nothing.md", "../../outside.md", "images/none.svg"])
def test_a_link_to_nothing_is_a_fault(target: str) -> None:
    _, (fault,) = links(f"[x]({target})")
    assert fault == f"docs/caption.md: a link leads to {target}, which does not exist"


def test_every_page_is_staged_and_has_a_heading(tmp_path: Path) -> None:
    stage.stage(files(), tmp_path / "pages")
    for name in files():
        assert (tmp_path / f"pages/{name}.md").exists()
    without = {name: file for name, file in files().items() if name != "caption"}
    with pytest.raises(BrokenLinkError, match=r"docs/caption\.md: no heading"):
        stage.stage(without, tmp_path / "pages")


@pytest.mark.parametrize(
    ("link", "code"), [("other.md", 0), ("other.md#there", 0), ("other.md#gone", 1), ("gone.md", 1)]
)
def test_the_build_fails_on_a_link_to_nothing(link: str, code: int, tmp_path: Path) -> None:
    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "index.md").write_text(f"# A\n\n[x]({link})\n\n```{{toctree}}\nother\n```\n")
    (pages / "other.md").write_text("# B\n\n## There\n\ntext\n")
    assert build.render(pages, tmp_path / "site") == code
    assert build.loaded_from_elsewhere(tmp_path / "site") == []


def test_what_is_loaded_from_elsewhere_is_seen(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<a href="https://x/y">x</a><script src="https://cdn/x.js"></script>'
    )
    assert build.loaded_from_elsewhere(tmp_path) == ['a.html: <script src="https://cdn/x.js']
