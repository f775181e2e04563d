"""What `pipeline` and `jobs` offer is there, and costs nothing until it is used."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

PACKAGES = ("pipeline", "jobs")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_name_is_there(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__all__
    for name in module.__all__:
        assert getattr(module, name).__module__.startswith(("pipeline.", "jobs.")), name


def test_a_function_is_not_hidden_by_the_module_of_its_name() -> None:
    importlib.import_module("pipeline.run")
    from pipeline import run

    assert callable(run)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_brings_none_of_its_modules(package: str) -> None:
    code = f"import sys, {package}; print(*(m for m in sys.modules if m.startswith('{package}.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_renderers_import_neither_the_driver_nor_the_command_line() -> None:
    code = "import sys, pipeline.stages.render, jobs.captioning.task; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"pipeline.run", "pipeline.execution.driver", "jobs.sdk", "typer", "rich"}
