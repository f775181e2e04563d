"""`make sbom` names each locked package, with its licence, and what wheels bring along."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy import sbom
from tests.deploy.cluster import BIN, ROOT

LOCK = ROOT / "deploy/docker/cpu.lock"
SECURITY = ROOT / "docs/security.md"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sbom") / "dist"
    tool = BIN.parent / "sbom/bin/python"
    if not tool.exists():
        pytest.skip("needs .venv/sbom, which make sbom and make test make")
    sbom.write(LOCK, folder, str(tool))
    return folder


def test_it_names_each_locked_package_at_its_version(written: Path) -> None:
    document = json.loads((written / "sbom.cdx.json").read_text())
    assert document["bomFormat"] == "CycloneDX"
    named = {sbom.normal(each["name"]): each["version"] for each in document["components"]}
    assert named == sbom.pins(LOCK)
    known = {each["bom-ref"] for each in document["components"]}
    assert all({*edge.get("dependsOn", [])} <= known for edge in document["dependencies"])


def packages(section: str) -> set[str]:
    """Those that the table of a section of `licences.md` names, as `name version`."""
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line[:2] == "| "]
    return {each for _, named, *_ in rows[2:] for each in named.split(", ")}


def sections(written: Path) -> list[str]:
    """Copyleft, others, and libraries inside wheels."""
    _, *found = (written / "licences.md").read_text().split("\n## ")
    return found


def test_each_package_has_a_licence(written: Path) -> None:
    copyleft, others, _ = sections(written)
    named = {tuple(each.rsplit(" ", 1)) for each in packages(copyleft) | packages(others)}
    assert {(sbom.normal(name), version) for name, version in named} == {*sbom.pins(LOCK).items()}


def test_the_copyleft_ones_are_in_the_docs(written: Path) -> None:
    names = {sbom.normal(each.rsplit(" ", 1)[0]) for each in packages(sections(written)[0])}
    assert {"certifi", "pi-heif", "tqdm"} <= names
    documented = SECURITY.read_text()
    assert [name for name in sorted(names) if f"`{name}`" not in documented] == []


def test_libraries_inside_wheels_are_named(written: Path) -> None:
    libraries = sections(written)[2].splitlines()
    (heif,) = (line for line in libraries if line.startswith("| pi-heif |"))
    assert "libx265" not in heif
    assert "libde265" in heif


@pytest.mark.parametrize(
    ("pin", "said"),
    [
        ("numpy==0.1", r"numpy is locked at 0\.1, and is .* here: make setup"),
        ("no-such-package==1", "no-such-package is locked at 1, and is missing here"),
    ],
)
def test_an_environment_that_is_not_the_lock_s_is_refused(
    written: Path, tmp_path: Path, pin: str, said: str
) -> None:
    document = json.loads((written / "sbom.cdx.json").read_text())
    (tmp_path / "lock").write_text(f"{pin}\n")
    with pytest.raises(sbom.FailedError, match=said):
        sbom.only(document, sbom.pins(tmp_path / "lock"))
