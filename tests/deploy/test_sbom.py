"""`make sbom`: every locked package is named, with its licence, and so is what wheels bring along."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy import sbom
from tests.deploy.cluster import ROOT

LOCK = ROOT / "deploy/docker/cpu.lock"
SECURITY = ROOT / "docs/security.md"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sbom") / "dist"
    sbom.write(LOCK, folder)
    return folder


def test_it_names_each_locked_package_at_its_version(written: Path) -> None:
    document = json.loads((written / "sbom.cdx.json").read_text())
    assert document["bomFormat"] == "CycloneDX"
    named = {sbom.normal(each["name"]): each["version"] for each in document["components"]}
    assert named == sbom.pins(LOCK)
    known = {each["bom-ref"] for each in document["components"]}
    assert all({*edge.get("dependsOn", [])} <= known for edge in document["dependencies"])


def test_each_package_has_a_line_in_the_licences(written: Path) -> None:
    text = (written / "licences.md").read_text()
    for name, version in sbom.pins(LOCK).items():
        assert f"{name} {version}" in sbom.normal(text).replace("\n", " ") or any(
            sbom.normal(line).find(f"{name} {sbom.normal(version)}") >= 0
            for line in text.splitlines()
        ), name


def test_the_copyleft_ones_are_in_the_docs(written: Path) -> None:
    copyleft, _ = (written / "licences.md").read_text().split("## Others")
    rows = [
        line for line in copyleft.splitlines() if line.startswith("| ") and "licence" not in line
    ]
    packages = {
        each.rsplit(" ", 1)[0]
        for row in rows
        for each in row.split(" | ")[1].strip(" |").split(", ")
    }
    assert {"certifi", "tqdm"} <= packages - {"---"}
    documented = SECURITY.read_text()
    assert [name for name in sorted(packages - {"---"}) if f"`{name}`" not in documented] == []


def test_libraries_inside_wheels_are_named(written: Path) -> None:
    _, libraries = (written / "licences.md").read_text().split("## Shared libraries")
    (heif,) = (line for line in libraries.splitlines() if line.startswith("| pillow-heif |"))
    assert "libx265" in heif
    assert "libde265" in heif


def test_an_environment_that_is_not_the_lock_s_is_refused(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.write_text("numpy==0.1\n")
    with pytest.raises(
        sbom.FailedError, match=r"numpy is locked at 0\.1, and is .* here: make setup"
    ):
        sbom.write(lock, tmp_path)
    lock.write_text("no-such-package==1\n")
    with pytest.raises(
        sbom.FailedError, match="no-such-package is locked at 1, and is missing here"
    ):
        sbom.write(lock, tmp_path)
