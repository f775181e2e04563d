"""Writes what a lock brings, and under which licences.

    python deploy/sbom.py LOCK FOLDER TOOL

TOOL is the interpreter of an environment that has cyclonedx-bom, and must not be this one: that
package brings rfc3987-syntax, which jsonschema loads whenever it is imported, and Ray imports
jsonschema in every process, which then takes seconds longer to start.

FOLDER gets `sbom.cdx.json`, a CycloneDX bill of materials, and `licences.md`, which names for each
licence its packages, and the shared libraries inside their wheels, whose licences are often
others. It describes this interpreter's environment; that a locked package is missing there, or
has another version, is an error.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

COPYLEFT = re.compile(r"GPL|MPL|EPL|CDDL|EUPL|CeCILL|General Public|Mozilla Public")
"""What the names of licences have in them that ask for something of what is passed on."""
UNKNOWN = "not stated"
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;]+)", re.MULTILINE)
SHARED_LIBRARY = re.compile(r"\.libs/([^/]+\.so[^/]*)$")


class FailedError(Exception):
    """It cannot be written; one line says why."""


def normal(name: str) -> str:
    """A package's name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lock: Path) -> dict[str, str]:
    """The versions of a lock, by package."""
    return {normal(name): version for name, version in PIN.findall(lock.read_text())}


def bill(tool: str) -> dict[str, Any]:
    """The CycloneDX document of this environment, made by another interpreter."""
    # Its validation takes twenty times as long as the rest.
    options = ["--output-reproducible", "--no-validate"]
    command = [tool, "-m", "cyclonedx_py", "environment", *options, sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise FailedError(f"cyclonedx-bom: {lines[-1]}")
    return dict(json.loads(done.stdout))


def only(document: dict[str, Any], locked: dict[str, str]) -> dict[str, Any]:
    """The part of a document that is about locked packages.

    Raises:
        FailedError: One of them is not installed, or has another version.
    """
    found = {normal(each["name"]): each for each in document["components"]}
    for name, version in locked.items():
        installed = found[name]["version"] if name in found else "missing"
        if installed != version:
            raise FailedError(f"{name} is locked at {version}, and is {installed} here: make setup")
    components = [found[name] for name in sorted(locked)]
    kept = {each["bom-ref"] for each in components}
    edges = [
        {**edge, "dependsOn": [ref for ref in edge.get("dependsOn", []) if ref in kept]}
        for edge in document.get("dependencies", [])
        if edge["ref"] in kept
    ]
    return {**document, "components": components, "dependencies": edges}


def licences(component: dict[str, Any]) -> set[str]:
    """The names of a package's licences, as it states them: in SPDX's words, if it has some."""
    stated = [each.get("license", each) for each in component.get("licenses", [])]
    names = {each.get("expression") or each.get("id") for each in stated} - {None}
    if not names:
        names = {each["name"].strip().splitlines()[0] for each in stated}
    return {str(name).removeprefix("License :: ") for name in names} or {UNKNOWN}


def inside_wheels(locked: Iterable[str]) -> dict[str, list[str]]:
    """Shared libraries that came with packages, by package."""
    found = {}
    for distribution in distributions():
        name = normal(distribution.metadata["Name"])
        paths = [str(file) for file in distribution.files or ()]
        libraries = {match[1] for path in paths if (match := SHARED_LIBRARY.search(path))}
        if libraries and name in locked:
            found[name] = sorted(libraries)
    return dict(sorted(found.items()))


def table(document: dict[str, Any], libraries: dict[str, list[str]]) -> Iterator[str]:
    """The lines of `licences.md`."""
    packages = defaultdict(list)
    for component in document["components"]:
        for licence in licences(component):
            packages[licence].append(f"{component['name']} {component['version']}")
    yield "# Licences\n\nAs the packages state them.\n"
    for heading, wanted in (("Copyleft", True), ("Others", False)):
        yield f"## {heading}\n\n| licence | packages |\n| --- | --- |"
        for licence in sorted(packages, key=lambda name: (-len(packages[name]), name)):
            if bool(COPYLEFT.search(licence)) == wanted:
                yield f"| {licence[:80].replace('|', '/')} | {', '.join(packages[licence])} |"
        yield ""
    yield "## Shared libraries inside wheels\n\n| package | libraries |\n| --- | --- |"
    for name, files in libraries.items():
        yield f"| {name} | {', '.join(files)} |"


def write(lock: Path, folder: Path, tool: str) -> None:
    """Write both files.

    Raises:
        FailedError: The environment is not that of the lock.
    """
    locked = pins(lock)
    document = only(bill(tool), locked)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sbom.cdx.json").write_text(json.dumps(document, indent=1) + "\n")
    lines = table(document, inside_wheels(locked))
    (folder / "licences.md").write_text("\n".join(lines) + "\n")
    print(f"{len(locked)} packages: {folder}/sbom.cdx.json, {folder}/licences.md")


if __name__ == "__main__":
    try:
        write(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
    except FailedError as error:
        sys.exit(f"sbom: {error}")
