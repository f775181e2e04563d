"""What `make dist-check` looks at; that itself builds, installs and runs the package."""

from __future__ import annotations

from tests.release.distribution import CARD, faults_of_sdist, faults_of_wheel, tracked

EXPECTED = {"jobs/__init__.py", "jobs/demo/checkpoint/model.safetensors", "jobs/py.typed"}


def test_the_packages_files_are_known() -> None:
    files = tracked()
    assert EXPECTED | {CARD, "jobs/sdk/functions.pyi"} <= files
    assert [name for name in files if name.endswith(".md")] == [CARD]


def test_what_a_distribution_lacks_or_has_too_much_is_seen() -> None:
    names = {*EXPECTED, "gemma3_batch-0.1.0.dist-info/METADATA"}
    assert faults_of_wheel(names, EXPECTED) == []
    (fault,) = faults_of_wheel(names - {"jobs/py.typed"}, EXPECTED)
    assert fault.startswith("the wheel lacks jobs/py.typed")
    (fault,) = faults_of_wheel(names | {"tests/conftest.py"}, EXPECTED)
    assert fault.startswith("the wheel has tests/conftest.py")
    sources = {f"gemma3_batch-0.1.0/{name}" for name in EXPECTED}
    missing = ["pyproject.toml", "README.md", "LICENSE"]
    assert faults_of_sdist(sources, EXPECTED) == [
        f"the sdist lacks {name}" for name in sorted(missing)
    ]
