"""The version stands in one place, and `--version` says what runs without importing it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.cli import app as cli
from jobs.cli import versions as module
from jobs.cli.versions import version_text
from pipeline.output.run_record import versions

ROOT = Path(__file__).parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_what_is_installed_is_the_projects_version() -> None:
    assert versions()["gemma3-batch"] == VERSION, "make setup installs the new one"


def test_images_of_the_manifests_have_it() -> None:
    for file in sorted((ROOT / "deploy").rglob("*.yaml")):
        tags = re.findall(r"gemma3-batch:(\d[\w.]*)", file.read_text())
        assert set(tags) <= {VERSION}, file.name


def test_no_module_has_a_version_of_its_own() -> None:
    for package in ("gemma3_model", "jobs", "pipeline"):
        for file in (ROOT / package).rglob("*.py"):
            assert "__version__" not in file.read_text(), file


def test_the_option_says_what_runs() -> None:
    done = CliRunner().invoke(cli.app, ["--version"])
    assert done.exit_code == 0
    first, *lines = done.stdout.splitlines()
    assert first == f"gemma3-batch {VERSION}"
    found = dict(line.split(maxsplit=1) for line in lines if not line.startswith("Model class"))
    assert found.keys() == {"vLLM", "Ray", "torch", "transformers", "pyarrow", "Python"}
    assert found["Ray"] == versions()["ray"]
    assert lines[0].split()[-1] == "gemma3_model.model.Gemma3ForConditionalGeneration"


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "versions", lambda: {"ray": "2.60.0"})
    monkeypatch.setattr(module, "model_class", lambda: None)
    text = version_text()
    assert "vLLM         not installed" in text
    assert "vLLM's own, as ours is not installed as its plugin" in text


def test_nothing_heavy_is_imported() -> None:
    script = (
        "import sys; from jobs.cli.versions import version_text; version_text();"
        "print(sorted({'torch', 'vllm', 'ray', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"
