"""What the documentation says to type is run as it stands, and prints what it says.

A new recipe is a comment above a block, see `recipes`; `surroundings` has what it needs and leaves.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs import surroundings
from tests.docs.recipes import MODEL, ROOT, Block, Recipe, differs, lines_of_ci, pages, recipes

RECIPES = [*recipes()]
COMMANDS = {"bash": ["bash", "-euc"], "python": [sys.executable, "-c"]}


def run(block: Block, folder: Path) -> str:
    """Run a block, or write its file. Returns what it printed to stdout."""
    text = block.text.replace(MODEL, "demo")
    if block.role.startswith("file "):
        (folder / block.role.removeprefix("file ")).write_text(text)
        return ""
    places = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [*COMMANDS[block.language], text],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": places, "COLUMNS": "100"},
    )
    assert done.returncode == 0, f"{block.text}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "recipe",
    [pytest.param(r, id=r.name, marks=[pytest.mark.long] if r.is_long else []) for r in RECIPES],
)
def test_a_recipe(recipe: Recipe, tmp_path: Path) -> None:
    surroundings.BEFORE.get(recipe.name, lambda _: None)(tmp_path)
    printed = ""
    for block in recipe.blocks:
        if block.role == "output":
            missing = differs(block.text, printed)
            assert missing is None, f"{recipe.page.name} shows {missing!r}; printed was\n{printed}"
        else:
            printed = run(block, tmp_path)
    surroundings.AFTER.get(recipe.name, lambda _: None)(tmp_path)


def test_recipes_are_there_with_their_surroundings() -> None:
    names = {recipe.name for recipe in RECIPES}
    assert surroundings.BEFORE.keys() | surroundings.AFTER.keys() <= names
    assert {"first-captions", "first-translations"} <= names


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_what_ci_is_said_to_run_it_runs(page: Path) -> None:
    script = (ROOT / ".ci/run").read_text()
    for line in lines_of_ci(page.read_text()):
        assert re.search(
            rf"^\s*(?:if )?(?:[A-Z_]+=1 )?{re.escape(line)}\b", script, re.MULTILINE
        ), line


@pytest.mark.parametrize(
    ("shown", "printed", "missing"),
    [
        ("a\nb\n", "a\nb\nc\n", None),
        ("a\n...\nc\n", "a\nb\nc\n", None),
        ("a\nc\n", "a\nb\nc\n", "c"),
        ("...\n3 rows (3 ok)\n", "x\n4 rows (4 ok)\n", "3 rows (3 ok)"),
        ("3 rows, in 7 s, 1.5 rows/s after\n", "3 rows, in 227 s, 0.7 rows/s after\n", None),
        ("3 rows, in 7 s\n", "2 rows, in 7 s\n", "3 rows, in 7 s"),
        ("Output: /home/me/captions\n", "Output: /tmp/x/captions\n", None),
        ("Output: /home/me/captions\n", "Output: /tmp/x/other\n", "Output: /home/me/captions"),
        (
            "Started 2026-11-30T05:35:35+00:00, not\n",
            "Started 2027-01-01T00:00:00+00:00, not\n",
            None,
        ),
        ("  centred\n", "   centred\n", None),
        ("  centred\n", "centred\n", "  centred"),
        ("a\n", "", "a"),
    ],
)
def test_an_output_is_compared(shown: str, printed: str, missing: str | None) -> None:
    assert differs(shown, printed) == missing
