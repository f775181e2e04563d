"""`ray start --head`, then `ray job submit` of the example files, as on a real cluster."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import yaml
from ray.job_submission import JobSubmissionClient

from jobs.demo.dataset import held_out_scenes, write_dataset
from jobs.demo.phrases import POLICIES, caption, translation, violates
from pipeline.execution.cluster import WORKERS

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
ROWS = 60
SEED = 11
ENVIRONMENT = {
    **os.environ,
    **WORKERS,
    # A token that another Ray of this user has made would be asked for in every process.
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_OFFLINE": "1",
    "PATH": f"{BIN}:{os.environ['PATH']}",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address that jobs are submitted to."""
    port, folder = free_port(), tmp_path_factory.mktemp("head")
    command = ["ray", "start", "--head", "--block", "--num-cpus=2", "--disable-usage-stats"]
    command += [f"--port={free_port()}", f"--dashboard-port={port}", "--include-dashboard=true"]
    # Its default is one port for all: beside another cluster the agent would not take jobs.
    command += [f"--dashboard-agent-listen-port={free_port()}"]
    command += ["--object-store-memory=536870912"]
    environment = {name: value for name, value in ENVIRONMENT.items() if name != "RAY_ADDRESS"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(BIN / "ray"), *command[1:]], env=environment, stdout=log, stderr=log
        )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(address, process, folder / "log")
        yield address
    finally:
        process.terminate()
        process.wait(60)


def wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    give_up = time.monotonic() + 120
    while True:
        assert process.poll() is None, log.read_text()
        try:
            JobSubmissionClient(address).submit_job(entrypoint="true")
        except Exception:  # there is no dashboard yet, or no agent that takes jobs
            assert time.monotonic() < give_up, log.read_text()
            time.sleep(0.5)
        else:
            return


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder / "images", ROWS, seed=SEED)
    (folder / "texts").mkdir()
    texts = [caption(scene) for scene in islice(held_out_scenes(SEED), ROWS)]
    pq.write_table(pa.table({"text": texts}), folder / "texts" / "texts.parquet")
    return folder


def submit(
    head: str, file: str, data: Path, name: str, folder: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    variables = {"DATA": str(data), "MODEL": "demo", "HF_HUB_OFFLINE": "1"}
    command = [str(BIN / "ray"), "job", "submit", f"--address={head}", f"--submission-id={name}"]
    command += ["--working-dir=.", f"--runtime-env-json={json.dumps({'env_vars': variables})}"]
    command += ["--", "gemma3-batch", "run", file]
    return subprocess.run(
        command,
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


def rows(folder: Path) -> list[dict[str, object]]:
    return list(ds.dataset(folder).to_table().to_pylist())


@pytest.mark.timeout(500)
def test_captions(head: str, data: Path) -> None:
    done = submit(head, "deploy/caption.yaml", data, "captions")
    assert done.returncode == 0, done.stdout + done.stderr
    found = rows(data / "captions")
    assert [row["name"] for row in found] == [f"drawing-{n:05}.jpg" for n in range(ROWS)]
    assert sum(row["caption"] == row["truth"] for row in found) >= 0.98 * ROWS
    record = json.loads((data / "captions/_gemma3_batch/run.json").read_text())
    assert record["model_class"] == "gemma3_model.model.Gemma3ForConditionalGeneration"


@pytest.mark.timeout(500)
def test_translations(head: str, data: Path) -> None:
    done = submit(head, "deploy/translate.yaml", data, "translations")
    assert done.returncode == 0, done.stdout + done.stderr
    found = rows(data / "translations")
    scenes = [*islice(held_out_scenes(SEED), ROWS)]
    for language in ("fr", "de", "es"):
        truths = [translation(scene, language) for scene in scenes]
        answers = [row[f"text_{language}"] for row in found]
        right = sum(answer == truth for answer, truth in zip(answers, truths, strict=True))
        assert right >= 0.98 * ROWS
    again = submit(head, "deploy/translate.yaml", data, "translations-again")
    assert again.returncode == 0
    assert f"{ROWS} rows ({ROWS} ok)" in again.stdout
    assert "; 0 of them new" in again.stdout


@pytest.mark.timeout(500)
def test_labels(head: str, data: Path) -> None:
    done = submit(head, "deploy/moderate.yaml", data, "labels")
    assert done.returncode == 0, done.stdout + done.stderr
    found = rows(data / "labels")
    scenes = [*islice(held_out_scenes(SEED), ROWS)]
    judged = [
        (f"{policy.name}" in row["labels"], violates(scene, policy))  # type: ignore[operator]
        for policy in POLICIES
        for row, scene in zip(found, scenes, strict=True)
    ]
    assert sum(label == truth for label, truth in judged) >= 0.97 * len(judged)


@pytest.mark.timeout(500)
def test_a_job_of_ones_own(head: str, data: Path, tmp_path: Path) -> None:
    """Its module is in the working directory only; every worker imports it from there."""
    shutil.copy(ROOT / "tests/jobs/own/classify_images.py", tmp_path)
    places = f"input: {data}/images\noutput: {data}/classes\n"
    (tmp_path / "classify.yaml").write_text(
        f"task: classify_images:Classify\n{places}model: ${{MODEL}}\nlabels: [red, green]\n"
    )
    done = submit(head, "classify.yaml", data, "classes", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{ROWS} rows ({ROWS} ok)" in done.stdout
    assert {row["label"] for row in rows(data / "classes")} <= {"red", "green"}


@pytest.mark.timeout(300)
def test_a_wrong_file_ends_with_2_and_one_line(head: str, data: Path) -> None:
    wrong = yaml.safe_load((ROOT / "deploy/caption.yaml").read_text())
    path = data / "wrong.yaml"
    path.write_text(yaml.safe_dump({**wrong, "promt": "x"}))
    done = submit(head, str(path), data, "wrong")
    assert done.returncode != 0
    client = JobSubmissionClient(head)
    assert client.get_job_info("wrong").driver_exit_code == 2
    told = [line for line in client.get_job_logs("wrong").splitlines() if "gemma3-batch: " in line]
    assert len(told) == 1
    assert "promt: there is no such option; did you mean 'prompt'?" in told[0]
    assert f"{path}:" in told[0]
