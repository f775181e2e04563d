"""The manifests that `deploy/kubernetes/` makes: KubeRay's own schema, unknown fields rejected, and
what keeps a cluster from others.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from jobs.cli.job_file import read_job_file
from tests.deploy import kustomize

OVERLAYS = Path(__file__).parents[2] / "deploy/kubernetes/overlays"
SCHEMA = Path(__file__).parent / "kuberay/ray.io_raycronjobs.yaml"
NAMES = sorted(folder.name for folder in OVERLAYS.iterdir())
JOBS = {"nightly": "TranslateOptions", "caption": "CaptionOptions"}


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
def validators() -> dict[str, jsonschema.Draft202012Validator]:
    """By kind. KubeRay's schema of a RayJob is that of a RayCronJob's template."""
    definition = yaml.load(SCHEMA.read_text(), Loader=yaml.CSafeLoader)
    (cron,) = definition["spec"]["versions"]
    schema = strict(cron["schema"]["openAPIV3Schema"])
    once = copy.deepcopy(schema)
    once["properties"]["spec"] = schema["properties"]["spec"]["properties"]["jobTemplate"]
    checked = {"RayCronJob": schema, "RayJob": once}
    return {kind: jsonschema.Draft202012Validator(each) for kind, each in checked.items()}


@pytest.fixture(scope="module", params=NAMES)
def built(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """The overlay's name, and its manifests by kind."""
    manifests = kustomize.build(OVERLAYS / request.param)
    kinds = {manifest["kind"]: manifest for manifest in manifests}
    assert len(kinds) == len(manifests)
    return request.param, kinds


def ray_job(kinds: dict[str, Any]) -> dict[str, Any]:
    """The manifest that KubeRay takes."""
    (found,) = (kinds[kind] for kind in ("RayCronJob", "RayJob") if kind in kinds)
    return dict(found)


def template(manifest: dict[str, Any]) -> Any:
    """The specification of the job."""
    return manifest["spec"].get("jobTemplate", manifest["spec"])


def pods(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The templates of all pods that come of it."""
    spec = template(manifest)
    yield spec["submitterPodTemplate"]
    yield spec["rayClusterSpec"]["headGroupSpec"]["template"]
    yield from (group["template"] for group in spec["rayClusterSpec"]["workerGroupSpecs"])


def containers(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    return [each for pod in pods(manifest) for each in pod["spec"]["containers"]]


def faults(validators: dict[str, Any], manifest: dict[str, Any]) -> list[str]:
    found = validators[manifest["kind"]].iter_errors(manifest)
    return [error.message for error in found]


def test_it_is_what_kuberay_takes(built: Any, validators: Any) -> None:
    assert faults(validators, ray_job(built[1])) == []


def test_jobs_of_one_namespace_share_nothing_that_deleting_one_would_take_away() -> None:
    made = [kustomize.build(OVERLAYS / overlay) for overlay in ("caption-gpu", "nightly-gpu")]
    names = [{(each["kind"], each["metadata"]["name"]) for each in manifests} for manifests in made]
    assert ("NetworkPolicy", "caption") in names[0]
    assert not names[0] & names[1]


CLUSTER = ("rayClusterSpec",)
CONTAINER = (*CLUSTER, "headGroupSpec", "template", "spec", "containers", 0)


@pytest.mark.parametrize(
    ("path", "name", "value"),
    [
        ((), "entryPoint", "x"),
        ((*CLUSTER, "workerGroupSpecs", 0), "replica", 1),
        ((*CLUSTER, "workerGroupSpecs", 0), "replicas", "one"),
        ((*CLUSTER, "authOptions"), "mode", "tokens"),
        (CONTAINER, "envfrom", []),
    ],
)
@pytest.mark.parametrize("overlay", ["nightly-gpu", "caption-cpu"])
def test_a_typo_is_seen(
    validators: Any, overlay: str, path: tuple[Any, ...], name: str, value: object
) -> None:
    manifest = copy.deepcopy(
        ray_job({each["kind"]: each for each in kustomize.build(OVERLAYS / overlay)})
    )
    where: Any = template(manifest)
    for step in path:
        where = where[step]
    where[name] = value
    assert len(faults(validators, manifest)) == 1


def test_its_job_file_is_one_and_where_the_entrypoint_looks(built: Any, tmp_path: Path) -> None:
    overlay, kinds = built
    manifest = ray_job(kinds)
    ((name, text),) = kinds["ConfigMap"]["data"].items()
    (tmp_path / name).write_text(text)
    read = read_job_file(str(tmp_path / name))
    assert type(read.job.options).__name__ == JOBS[overlay.partition("-")[0]]
    _, head, *_ = pods(manifest)
    (mounted,) = (
        mount["mountPath"]
        for volume in head["spec"]["volumes"]
        if volume.get("configMap", {}).get("name") == kinds["ConfigMap"]["metadata"]["name"]
        for mount in head["spec"]["containers"][0]["volumeMounts"]
        if mount["name"] == volume["name"]
    )
    assert template(manifest)["entrypoint"] == f"gemma3-batch run {mounted}/{name}"


def test_images_and_hardware_go_together(built: Any) -> None:
    overlay, kinds = built
    on_gpus = overlay.endswith("-gpu")
    *_, worker = containers(ray_job(kinds))
    assert ("nvidia.com/gpu" in worker["resources"]["limits"]) == on_gpus
    tag = f"{version('gemma3-batch')}-{'cuda' if on_gpus else 'cpu'}"
    images = {each["image"] for each in containers(ray_job(kinds))}
    assert images == {f"gemma3-batch:{tag}"}


def test_the_cluster_asks_for_a_token(built: Any) -> None:
    cluster = template(ray_job(built[1]))["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["rayVersion"] == version("ray")  # without it KubeRay refuses authOptions


def test_secrets_are_there_by_reference_only(built: Any) -> None:
    for container in containers(ray_job(built[1])):
        for variable in container.get("env", []):
            assert "value" not in variable
            assert set(variable["valueFrom"]) == {"secretKeyRef"}
    assert "Secret" not in built[1]


def test_pods_may_do_little(built: Any) -> None:
    """As the Pod Security Standard `restricted` asks, and with a root that cannot be written."""
    for pod in pods(ray_job(built[1])):
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] == 1000
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"cpu", "memory"} <= {*container["resources"]["requests"]}
            assert "memory" in container["resources"]["limits"]


def test_only_its_own_pods_and_kuberay_reach_it(built: Any) -> None:
    _, kinds = built
    policy = kinds["NetworkPolicy"]["spec"]
    for pod in pods(ray_job(kinds)):
        assert policy["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    (rule,) = policy["ingress"]
    assert set(rule) == {"from"}
    assert all("podSelector" in peer for peer in rule["from"])
    labels = [peer["podSelector"]["matchLabels"] for peer in rule["from"]]
    # Of KubeRay's operator, in values.yaml and in config/manager (1.6 to 1.7); no Ray pod has it.
    assert {"app.kubernetes.io/component": "kuberay-operator"} in labels
    assert {"app.kubernetes.io/name": "kuberay"} not in labels
