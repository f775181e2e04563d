"""The folders are the way of a row, and imports run one way through them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MOST_ENTRIES = 12
NO_ROOMS = {"__pycache__", "__init__.pyi", "README.md", "py.typed"}
FLOORS = {
    "pipeline": (
        {"contract"},
        {"profiling"},
        {"storage"},
        {"sources", "images", "metrics"},
        {"engine"},
        {"output"},
        {"stages"},
        {"execution"},
        {"run"},
        {"__init__"},
    ),
    "jobs": (
        {"options", "answers"},
        {"captioning", "translation", "moderation"},
        {"demo"},
        {"registry"},
        {"report"},
        {"sdk"},
        {"forecast"},
        {"cli"},
        {"__init__", "__main__"},
    ),
}
"""From the lowest floor up. A room imports from lower floors; rooms of one floor not each other."""
INSIDE = {
    "pipeline": {"pipeline", "gemma3_model"},
    "jobs": {"jobs", "pipeline"},
    "gemma3_model": {"gemma3_model"},
}
"""Which of our packages each may import."""


def imports(file: Path) -> Iterator[tuple[str, ...]]:
    """The modules that a file imports, those for type checkers too."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = tuple((node.module or "").split("."))
            yield from ((*module, alias.name) for alias in node.names)


def room_of(package: str, parts: tuple[str, ...]) -> str:
    """The room of a module below the package; the package's own names are in `__init__`."""
    below = ROOT / package / parts[0]
    return parts[0] if below.is_dir() or below.with_suffix(".py").exists() else "__init__"


@pytest.mark.parametrize("package", FLOORS)
def test_a_package_has_few_entries_each_of_which_has_its_floor(package: str) -> None:
    entries = {path.name for path in (ROOT / package).iterdir()}
    rooms = {name.removesuffix(".py") for name in entries - NO_ROOMS}
    assert len(rooms - {"__init__", "__main__"}) <= MOST_ENTRIES
    assert rooms == set().union(*FLOORS[package])


@pytest.mark.parametrize("package", FLOORS)
def test_imports_run_down(package: str) -> None:
    floor_of = {room: floor for floor, rooms in enumerate(FLOORS[package]) for room in rooms}
    for file in sorted((ROOT / package).rglob("*.py")):
        here = room_of(package, file.relative_to(ROOT / package).with_suffix("").parts)
        for module in imports(file):
            there = room_of(package, module[1:]) if module[0] == package else here
            is_down = there == here or floor_of[there] < floor_of[here]
            assert is_down, f"{file.relative_to(ROOT)} imports {'.'.join(module)}"


@pytest.mark.parametrize("package", INSIDE)
def test_packages_import_one_way(package: str) -> None:
    for file in sorted((ROOT / package).rglob("*.py")):
        ours = {module[0] for module in imports(file)} & INSIDE.keys()
        assert ours <= INSIDE[package], file.relative_to(ROOT)


def test_only_the_engines_room_knows_the_model() -> None:
    for file in sorted((ROOT / "pipeline").rglob("*.py")):
        if any(module[0] == "gemma3_model" for module in imports(file)):
            assert file.parent == ROOT / "pipeline" / "engine", file.relative_to(ROOT)
