"""What is packaged is whole, and works where nothing else of this repository is: `make dist-check`.

Builds the sdist and, from it, the wheel; compares the wheel with the files that git has in the
packages; installs it into a new environment that sees the locked packages, but not this folder; and
runs the command there, from an empty folder.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import tomllib
import venv
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("gemma3_model", "jobs", "pipeline")
NOT_PACKAGED = (".md",)
"""Documentation beside the code; the site has it. The bundled model's own page goes with it."""
CARD = "jobs/demo/checkpoint/README.md"
NEEDED_TO_BUILD = ("pyproject.toml", "README.md", "LICENSE")
ROWS = 8


class NotWholeError(Exception):
    """What is wrong with the distribution, a line each."""


def tracked() -> set[str]:
    """The files that git has in the packages and that belong into a wheel."""
    listed = _output(["git", "ls-files", *PACKAGES], ROOT).splitlines()
    return {name for name in listed if name == CARD or not name.endswith(NOT_PACKAGED)}


def build(folder: Path) -> tuple[Path, Path]:
    """Build the sdist, and the wheel from it. Returns both.

    Built is a copy of what git knows: setuptools also packages whatever the list of an earlier
    build (`*.egg-info/SOURCES.txt`) names.
    """
    source = folder / "source"
    for name in _output(["git", "ls-files"], ROOT).splitlines():
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, source / name)
    tool = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder)]
    _output([*tool, str(source)], folder)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


def faults_of_wheel(names: Iterable[str], expected: set[str]) -> list[str]:
    """What a wheel lacks, and what does not belong into it."""
    found = {name for name in names if ".dist-info/" not in name and not name.endswith("/")}
    return [
        *(
            f"the wheel lacks {name}; see package-data in pyproject.toml"
            for name in sorted(expected - found)
        ),
        *(
            f"the wheel has {name}, which git has not in the packages"
            for name in sorted(found - expected)
        ),
    ]


def faults_of_sdist(names: Iterable[str], expected: set[str]) -> list[str]:
    """What an sdist lacks."""
    found = {name.partition("/")[2] for name in names}
    missing = sorted({*expected, *NEEDED_TO_BUILD} - found)
    return [f"the sdist lacks {name}" for name in missing]


def faults_of(sdist: Path, wheel: Path) -> list[str]:
    """What the two lack, and what the wheel has too much."""
    expected = tracked()
    with tarfile.open(sdist) as sources, zipfile.ZipFile(wheel) as files:
        return [
            *faults_of_sdist(sources.getnames(), expected),
            *faults_of_wheel(files.namelist(), expected),
        ]


def install(wheel: Path, folder: Path) -> Path:
    """Install the wheel alone into a new environment beside the locked packages.

    Packages of this environment are found by a `.pth` file. That names a folder; the `.pth` files
    in that folder, by which this repository is installed for development, are not followed.

    Returns:
        The folder of its commands.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    site = folder / f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    (site / "locked.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(folder)]
    _output(
        [*pip, "install", "--quiet", "--no-deps", "--no-index", "--ignore-installed", str(wheel)],
        folder,
    )
    return folder / "bin"


def check_commands(commands: Path, empty: Path) -> None:
    """Run the installed command from an empty folder. Raises NotWholeError."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    where = _output([commands / "python", "-c", "import jobs; print(jobs.__file__)"], empty)
    if not Path(where).is_relative_to(commands.parent):
        raise NotWholeError(f"the new environment imports {where.strip()}, not what was installed")
    shown = _output([commands / "gemma3-batch", "--version"], empty)
    if f"gemma3-batch {version}\n" not in shown or "gemma3_model.model.Gemma3" not in shown:
        raise NotWholeError(f"--version says\n{shown}")
    said = _output([commands / "gemma3-batch", "demo", "--rows", str(ROWS)], empty)
    if f"{ROWS} of {ROWS} captions" not in said:
        raise NotWholeError(f"the demo says\n{said}")


def check() -> None:
    """All of it. Raises NotWholeError, subprocess.CalledProcessError."""
    with tempfile.TemporaryDirectory() as place:
        folders = [Path(place) / name for name in ("built", "environment", "empty")]
        built, environment, empty = folders
        built.mkdir()
        empty.mkdir()
        sdist, wheel = build(built)
        faults = faults_of(sdist, wheel)
        if faults:
            raise NotWholeError("\n".join(faults))
        print(f"{wheel.name}: {len(tracked())} files, all of the packages and nothing else")
        check_commands(install(wheel, environment), empty)
        print("installed alone into a new environment: --version and demo work")


def _output(command: Sequence[str | Path], folder: Path) -> str:
    """What a command prints. It sees nothing of this folder."""
    hidden = ("PYTHONPATH", "VIRTUAL_ENV")
    variables = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(
        [*map(str, command)], cwd=folder, env=variables, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise NotWholeError(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    try:
        check()
    except NotWholeError as error:
        sys.exit(f"dist-check: {error}")
