"""The manifests in `deploy/` against KubeRay's own schema, unknown fields rejected."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from jobs.cli.job_file import read_job_file
from jobs.translation.job import TranslateOptions

DEPLOY = Path(__file__).parents[2] / "deploy"
SCHEMA = Path(__file__).parent / "kuberay" / "ray.io_raycronjobs.yaml"


def strict(schema: Any) -> Any:
    """The schema with fields refused that it does not name, as Kubernetes' API server does."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: strict(part) for name, part in schema.items()}
    is_open = closed.get("x-kubernetes-preserve-unknown-fields")
    if isinstance(closed.get("properties"), dict) and not is_open:
        closed.setdefault("additionalProperties", False)
    return closed


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    definition = yaml.load(SCHEMA.read_text(), Loader=yaml.CSafeLoader)
    (version,) = definition["spec"]["versions"]
    return jsonschema.Draft202012Validator(strict(version["schema"]["openAPIV3Schema"]))


@pytest.fixture
def manifest() -> dict[str, Any]:
    documents = [*yaml.safe_load_all((DEPLOY / "nightly-translation.yaml").read_text())]
    (job,) = (document for document in documents if document["kind"] == "RayCronJob")
    return dict(job)


def faults(validator: jsonschema.Draft202012Validator, manifest: Any) -> list[str]:
    return [error.message for error in validator.iter_errors(manifest)]


def test_the_nightly_job_is_valid(validator: Any, manifest: dict[str, Any]) -> None:
    assert faults(validator, manifest) == []


CLUSTER = ("spec", "jobTemplate", "rayClusterSpec")
CONTAINER = (*CLUSTER, "headGroupSpec", "template", "spec", "containers", 0)


@pytest.mark.parametrize(
    ("path", "name", "value"),
    [
        (("spec",), "concurrencyPolicy", "Forbid"),
        (("spec", "jobTemplate"), "entryPoint", "x"),
        ((*CLUSTER, "workerGroupSpecs", 0), "replica", 1),
        ((*CLUSTER, "workerGroupSpecs", 0), "replicas", "one"),
        (CONTAINER, "envfrom", []),
    ],
)
def test_a_typo_is_seen(
    validator: Any, manifest: dict[str, Any], path: tuple[Any, ...], name: str, value: object
) -> None:
    wrong = copy.deepcopy(manifest)
    where: Any = wrong
    for step in path:
        where = where[step]
    where[name] = value
    assert len(faults(validator, wrong)) == 1


def test_its_job_file_is_one(manifest: dict[str, Any], tmp_path: Path) -> None:
    documents = [*yaml.safe_load_all((DEPLOY / "nightly-translation.yaml").read_text())]
    (config,) = (document for document in documents if document["kind"] == "ConfigMap")
    ((name, text),) = config["data"].items()
    (tmp_path / name).write_text(text)
    assert isinstance(read_job_file(str(tmp_path / name)).job.options, TranslateOptions)
    assert manifest["spec"]["jobTemplate"]["entrypoint"].endswith(f"/{name}")


@pytest.mark.parametrize("job", ["caption", "translate", "moderate"])
def test_the_example_files_are_job_files(job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA", "/data")
    monkeypatch.setenv("MODEL", "demo")
    read = read_job_file(str(DEPLOY / f"{job}.yaml"))
    assert type(read.job.options).__name__ == f"{job.title()}Options"


def test_the_crontab_line_runs_an_example() -> None:
    lines = (DEPLOY / "nightly-translation.cron").read_text().splitlines()
    (line,) = (line for line in lines if not line.startswith("#"))
    *times, command = line.split(" ", 5)
    assert len(times) == 5
    assert "gemma3-batch run /opt/gemma3-batch/deploy/translate.yaml" in command
