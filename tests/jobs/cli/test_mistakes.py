"""Mistakes: one or two lines that say the fix, the documented exit code, and nothing written.

The table is in `mistakes`. Nearly all of it runs in this process; a few by the real command, whose
time is printed.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import resource
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from jobs.captioning.job import JOB
from jobs.cli import app as cli
from jobs.cli.help import EXIT_CODES
from jobs.sdk.assembly import configure
from pipeline.engine import supported_versions
from pipeline.engine.backends import backend_of
from pipeline.engine.model_files import BUNDLED
from pipeline.engine.models.cache import VARIABLE
from pipeline.execution import cluster
from pipeline.execution.preparation import check_run
from pipeline.output.run_record import claim
from tests.hub import Hub
from tests.jobs.cli.mistakes import MISTAKES, Mistake, page
from tests.mounts import can_mount
from tests.openai_server import Server, serving

DOCS = Path(__file__).parents[3] / "docs"
LEAST = 40
FILES = {
    "texts.csv": "text,lang\nhello,en\n",
    "other/x.doc": "not read",
    "broken.parquet": "PAR1\0 and no more",
    "schema.json": '{"type": "objct"}',
    "circle.yaml": "- name: a\n  prompt: see {b}\n- name: b\n  prompt: see {a}\n",
    "terms.csv": "foo,bar\n1,2\n",
    "unclear.yaml": "- name: x\n  txt: No X\n",
    "cut.yaml": "- name: [\n",
    "field.yaml": "job: caption\ninput: /in\noutput: /out\nmodle: demo\n",
    "variable.yaml": "job: caption\ninput: /in\noutput: ${NO_SUCH_NAME}\nmodel: demo\n",
    "llama/config.json": '{"architectures": ["LlamaForCausalLM"]}',
}
MOST_SECONDS = 60.0
"""Of a real command; on an idle machine they take three seconds."""


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What the braces in the table stand for."""
    folder = tmp_path_factory.mktemp("mistakes")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    for name in ("in", "empty", "photos"):
        (folder / name).mkdir()
    images = {"image": [b"x"], "title": ["t"], "n": [1]}
    pq.write_table(pa.table(images), folder / "in" / "a.parquet")
    pq.write_table(pa.table({"photo": [b"x"], "title": ["t"]}), folder / "photos.parquet")
    ends = {"eos_token_id": 1}
    shutil.copytree(
        BUNDLED["demo"], folder / "base", ignore=shutil.ignore_patterns("chat_template.jinja")
    )
    for name in ("config.json", "generation_config.json"):
        settings = json.loads((folder / "base" / name).read_text())
        (folder / "base" / name).write_text(json.dumps(settings | ends))
    begin(folder / "in", folder / "begun")
    own = {name: str(folder / name) for name in ("in", "out", "empty", "other", "llama", "base")}
    own |= {"folder": str(folder), "texts": str(folder / "texts.csv")}
    own |= {"broken": str(folder / "broken.parquet"), "begun": str(folder / "begun")}
    own |= {"photos": str(folder / "photos.parquet")}
    hub = Hub()
    hub.add("us/gemma", BUNDLED["demo"], "models")
    hub.repositories["models", "us/gemma"].is_gated = True
    with hub.running() as url, serving(Server(key="k")) as locked, other_program() as taken:
        own |= {"locked": locked, "pathless": locked.removesuffix("/v1")}
        yield {**own, "hub": url, "taken": taken, "nobody": "127.0.0.1:9"}


def begin(source: Path, output: Path) -> None:
    """What a run that has begun leaves in its OUTPUT."""
    job = configure(JOB, {"model": "demo"})
    config = job.run_config(str(source), str(output))
    checked = check_run(config, job.task(), backend_of(config.engine))
    claim(checked.output, checked.record)


@contextlib.contextmanager
def other_program() -> Iterator[str]:
    """The address of a program that is no Ray, and answers everybody."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    peer, _ = server.accept()
                    with peer:
                        peer.recv(1000)
                        peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def _nothing_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Ray and engines do not start in these tests; the hub's client may ask the hub."""

    def start() -> bool:
        raise AssertionError("Ray would start")

    monkeypatch.setattr(importlib.import_module("pipeline.run"), "starts_own_cluster", start)
    monkeypatch.setattr(cluster, "_is_connected", lambda: False)  # though other tests may have Ray
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    for name in ("HF_TOKEN", "RAY_ADDRESS", "GEMMA3_BATCH_LOG", "GEMMA3_BATCH_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def set_up(mistake: Mistake, places: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    variables = dict(mistake.environment)
    old = variables.pop("OLD", None)
    if old is not None:
        installed = supported_versions.version
        monkeypatch.setattr(
            supported_versions,
            "version",
            lambda name: "0.9.1" if name.startswith(old) else installed(name),
        )
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(**places))


def files(places: dict[str, str]) -> dict[str, int]:
    found = Path(places["folder"]).rglob("*")
    return {str(path): path.stat().st_mtime_ns for path in found if path.is_file()}


def is_like(told: str, wanted: str) -> bool:
    """Whether a message is the one in the table, where `...` stands for anything."""
    return re.fullmatch(".*".join(map(re.escape, wanted.split("..."))), told, re.DOTALL) is not None


@pytest.mark.usefixtures("_nothing_starts")
@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda one: f"{one.about}: {one.told[:40]}")
def test_a_mistake_is_told_with_its_fix(
    mistake: Mistake, places: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up(mistake, places, monkeypatch)
    before = files(places)
    done = CliRunner().invoke(cli.app, shlex.split(mistake.command.format(**places)))
    assert done.exit_code == mistake.code, done.output
    assert done.stdout == ""
    assert done.stderr.startswith("gemma3-batch: ")
    assert done.stderr.count("\n") <= 2
    assert "Traceback" not in done.stderr
    told, wanted = done.stderr.strip().removeprefix("gemma3-batch: "), mistake.told.format(**places)
    assert is_like(told, wanted), f"{told}\nin the place of\n{wanted}"
    assert files(places) == before
    assert not Path(places["out"]).exists()


def test_there_are_many_and_each_has_an_exit_code_that_is_documented() -> None:
    assert len({(one.command, *one.environment.items()) for one in MISTAKES}) >= LEAST
    documented = {int(code) for code in re.findall(r"^ +(\d+) ", EXIT_CODES, re.MULTILINE)}
    assert {one.code for one in MISTAKES} <= documented


def test_the_page_of_errors_has_the_true_messages() -> None:
    """`python -m tests.jobs.cli.mistakes` prints what belongs there."""
    assert page() in (DOCS / "errors.md").read_text()


REAL = {
    "a path": ("caption {folder}/photso {out} --model demo", "did you mean 'photos'?", ""),
    "a column": ("caption {photos} {out} --model demo", "name yours with --image-column", ""),
    "an option": ("caption {in} {out} --model demo --promt x", "did you mean --prompt", ""),
    "engine_args": (
        "caption {in} {out} --model demo --engine-args no_such=1",
        "takes no 'no_such'; take it out",
        "",
    ),
    "a cluster that is another program": (
        "caption {in} {out} --model demo",
        "another program listens on that port",
        "{taken}",
    ),
    "a job file": ("run {folder}/field.yaml", ":4: modle: there is no such option", ""),
    "a run": ("status {other}", "name the folder that a run wrote to", ""),
}


def cpu_seconds() -> float:
    """Of the processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("name", REAL)
def test_the_real_command_says_it_too(
    name: str, places: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    command, told, ray = REAL[name]
    began, before = time.monotonic(), cpu_seconds()
    environment = {
        k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS", "PYTHONWARNINGS")
    }
    if ray:
        environment["RAY_ADDRESS"] = ray.format(**places)
    done = subprocess.run(
        [sys.executable, "-m", "jobs", *shlex.split(command.format(**places))],
        capture_output=True,
        text=True,
        check=False,
        timeout=MOST_SECONDS,
        env=environment,
    )
    with capsys.disabled():
        took, of_cpu = time.monotonic() - began, cpu_seconds() - before
        print(f" {name}: {took:.1f} s ({of_cpu:.1f} s of CPU) ", end="")
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert told in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_small_shared_memory_is_told_before_ray_starts() -> None:
    """As in a container that was started without --shm-size."""
    if not can_mount():
        pytest.skip("disks cannot be mounted here")
    code = (
        "from pipeline.execution.cluster import _shared_memory_fault; print(_shared_memory_fault())"
    )
    inside = 'mount -t tmpfs -o size=64m none /dev/shm; exec "$@"'
    command = ["unshare", "-m", "sh", "-ec", inside, "sh", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("warning: /dev/shm has 64 MiB left, so Ray keeps rows in files")
    assert "--shm-size=8g" in done.stdout
