"""`deploy/skypilot.yaml`: its form by SkyPilot's own schema; its script on two real Ray nodes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from pipeline.execution.cluster import WORKERS
from tests.deploy import cluster, examples
from tests.deploy.cluster import BIN, ROOT

FILE = ROOT / "deploy/skypilot.yaml"
SCHEMAS = Path(__file__).parent / "skypilot"
TASK: dict[str, Any] = yaml.safe_load(FILE.read_text())


def faults(task: dict[str, Any]) -> list[str]:
    parts = (("task", task), ("resources", task["resources"]))
    return [
        error.message
        for name, part in parts
        for error in jsonschema.Draft202012Validator(
            json.loads((SCHEMAS / f"{name}.json").read_text())
        ).iter_errors(part)
    ]


def test_it_is_what_skypilot_takes() -> None:
    assert faults(TASK) == []
    assert len(faults({**TASK, "num_node": 2})) == 1
    assert len(faults({**TASK, "resources": {**TASK["resources"], "use_spots": True}})) == 1


def test_secrets_have_no_values_and_no_port_is_opened() -> None:
    assert {*TASK["secrets"]} == {
        *("RAY_AUTH_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN")
    }
    assert {name: value for name, value in TASK["secrets"].items() if value} == {}
    assert [name for name, value in TASK["secrets"].items() if value == ""] == ["HF_TOKEN"]
    assert "ports" not in TASK["resources"]
    assert "RAY_AUTH_MODE=token" in TASK["run"]


def test_the_lines_that_launch_it_name_what_it_asks_for() -> None:
    comment = "".join(line for line in FILE.read_text().splitlines() if line.startswith("#"))
    for name in TASK["secrets"]:
        assert f"--secret {name}" in comment
    for name, value in TASK["envs"].items():
        assert value or f"--env {name}=" in comment


@pytest.mark.long
def test_its_script_runs_the_job_on_two_nodes(tmp_path: Path) -> None:
    data = examples.write(tmp_path / "data")
    port = cluster.free_port()
    script = TASK["run"].replace("port=6379", f"port={port}")
    script = script.replace("$PWD/.venv-gpu/bin", str(BIN))
    script = script.replace("options=(", "options=(--num-cpus=1 ")

    def node(rank: int) -> subprocess.Popen[str]:
        env = cluster.environment(
            **WORKERS,
            DATA=str(data),
            MODEL="demo",
            JOB="deploy/caption.yaml",
            RAY_AUTH_TOKEN="0123456789abcdef" * 2,
            SKYPILOT_NODE_IPS="127.0.0.1\n127.0.0.1",
            SKYPILOT_NODE_RANK=str(rank),
            SKYPILOT_NUM_NODES="2",
        )
        return subprocess.Popen(
            ["bash", "-c", script],
            cwd=ROOT,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    try:
        head, worker = node(0), node(1)
        printed, _ = head.communicate(timeout=300)
        assert head.returncode == 0, printed
        assert worker.wait(60) == 0
    finally:
        cluster.kill_those_of(port)
    assert f"{examples.ROWS} rows ({examples.ROWS} ok)" in printed
    examples.check_captions(data)
