"""`ray start --head` with a token, then `ray job submit` of the example files, as on a cluster.

INPUT and OUTPUT are on Ceph RGW, a real S3 server, whose keys only the cluster's machines have.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import time
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
import yaml

from pipeline.storage.location import locate
from tests.deploy import cluster, examples
from tests.deploy.cluster import ROOT, Head
from tests.stores import ENVIRONMENT as OF_S3
from tests.stores import S3

IMAGES = 200
"""So many that a run is seen at work before it is done."""

pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory, rgw: S3) -> Iterator[Head]:
    """A cluster on which every process can reach the store, and nobody without its token."""
    keys = {"AWS_ACCESS_KEY_ID": rgw.key, "AWS_SECRET_ACCESS_KEY": rgw.secret}
    with cluster.head(
        tmp_path_factory.mktemp("head"),
        AWS_ENDPOINT_URL=rgw.endpoint,
        HF_HUB_OFFLINE="1",
        **{**OF_S3, **keys},
    ) as started:
        yield started


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory, rgw: S3) -> str:
    """The URL under which `images` and `texts` are."""
    written, url = examples.write(tmp_path_factory.mktemp("data"), IMAGES), rgw.url
    place = locate(url, rgw.options)
    place.fs.put(f"{written}/", f"{place.path}/", recursive=True)
    return url


def fetched(bucket: str, rgw: S3, folder: Path) -> Path:
    """A copy on this machine of all that is there."""
    place = locate(bucket, rgw.options)
    place.fs.invalidate_cache()
    place.fs.get(f"{place.path}/", f"{folder}/", recursive=True)
    return folder


def submit(head: Head, file: str, data: str, name: str, **more: Any) -> subprocess.Popen[str]:
    variables = {"DATA": data, "MODEL": "demo"}
    return head.submit("gemma3-batch", "run", file, name=name, variables=variables, **more)


def done(process: subprocess.Popen[str]) -> str:
    """What it printed; fails unless it ended well."""
    printed, _ = process.communicate(timeout=800)
    assert process.returncode == 0, printed
    return printed


@pytest.mark.parametrize("job", ["translate", "moderate"])
def test_an_example_file(head: Head, bucket: str, rgw: S3, job: str, tmp_path: Path) -> None:
    rows = examples.ROWS if job == "translate" else IMAGES
    printed = done(submit(head, f"deploy/{job}.yaml", bucket, job))
    assert f"{rows} rows ({rows} ok)" in printed
    examples.CHECKS[job](fetched(bucket, rgw, tmp_path), IMAGES)


def journal_files(bucket: str, rgw: S3) -> list[str]:
    place = locate(f"{bucket}/captions/_gemma3_batch/journal", rgw.options)
    place.fs.invalidate_cache()
    with contextlib.suppress(FileNotFoundError):
        return [str(path) for path in place.fs.find(place.path)]
    return []


def driver_of(head: Head, file: str) -> psutil.Process:
    """The process of a submitted job, of which the job server does not tell the id."""
    (found,) = [
        process
        for process in psutil.Process(head.process.pid).children(recursive=True)
        if process.name() == "gemma3-batch" or process.cmdline()[-2:] == ["run", file]
        if "gemma3-batch" in " ".join(process.cmdline()[:2])
    ]
    return found


def test_a_job_that_is_killed_and_submitted_again(
    head: Head, bucket: str, rgw: S3, tmp_path: Path
) -> None:
    first = submit(head, "deploy/caption.yaml", bucket, "caption")
    while not journal_files(bucket, rgw):
        assert first.poll() is None, first.communicate()[0]
        time.sleep(0.1)
    driver_of(head, "deploy/caption.yaml").kill()
    assert "failed" in first.communicate(timeout=300)[0]
    assert first.returncode == 1

    printed = done(submit(head, "deploy/caption.yaml", bucket, "caption-again"))
    assert f"{IMAGES} rows ({IMAGES} ok)" in printed
    (new,) = re.findall(r"; (\d+) of them new", printed)
    assert 0 < int(new) < IMAGES  # the others were in the journal
    examples.check_captions(fetched(bucket, rgw, tmp_path), IMAGES)
    assert "; 0 of them new" in done(submit(head, "deploy/caption.yaml", bucket, "caption-third"))


def test_the_store_s_keys_are_not_shown(head: Head, rgw: S3) -> None:
    told = head.ask("/api/jobs/") + head.log("caption-again")
    assert "caption-again" in told
    assert rgw.key not in told
    assert rgw.secret not in told


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"RAY_AUTH_MODE": "disabled"}, "Missing authentication token"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "wrong"}, "Invalid authentication token"),
    ],
)
def test_nobody_submits_without_the_token(
    head: Head, bucket: str, variables: dict[str, str], said: str
) -> None:
    env = cluster.environment(**variables)
    process = submit(head, "deploy/caption.yaml", bucket, "foreign", env=env)
    printed, _ = process.communicate(timeout=100)
    assert process.returncode != 0
    assert said in printed
    assert "foreign" not in head.ask("/api/jobs/")


@pytest.mark.parametrize(
    "variables",
    [
        {"RAY_AUTH_MODE": "disabled"},
        pytest.param({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "wrong"}, marks=pytest.mark.long),
    ],
)
def test_a_driver_without_the_token_is_told_what_to_set(
    head: Head, tmp_path: Path, variables: dict[str, str]
) -> None:
    env = cluster.environment(**variables, RAY_ADDRESS=head.gcs)
    examples.write(tmp_path, 1)
    done = subprocess.run(
        [str(cluster.BIN / "gemma3-batch"), "caption", "images", "captions", "--model", "demo"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "set RAY_AUTH_MODE=token" in done.stderr.replace("\n", " ")
    assert not (tmp_path / "captions").exists()


@pytest.mark.parametrize("path", ["/api/jobs/", "/nodes?view=summary", "/api/v0/tasks"])
def test_nobody_reads_without_the_token(head: Head, path: str) -> None:
    assert head.ask(path)
    for token, status in (("", 401), ("wrong", 403)):
        with pytest.raises(urllib.error.HTTPError) as refused:
            head.ask(path, token)
        assert refused.value.code == status


@pytest.mark.long  # by command and in Python: tests/jobs/test_own_job.py
def test_a_job_of_ones_own(head: Head, bucket: str, rgw: S3, tmp_path: Path) -> None:
    """Its module is in the working directory only; every worker imports it from there."""
    own = tmp_path / "own"
    own.mkdir()
    shutil.copy(ROOT / "tests/jobs/own/classify_images.py", own)
    places = f"input: {bucket}/images\noutput: {bucket}/classes\n"
    (own / "classify.yaml").write_text(
        f"task: classify_images:Classify\n{places}model: ${{MODEL}}\nlabels: [red, green]\n"
    )
    printed = done(submit(head, "classify.yaml", bucket, "classes", folder=own))
    assert f"{IMAGES} rows ({IMAGES} ok)" in printed
    data = fetched(bucket, rgw, tmp_path / "data")
    assert {row["label"] for row in examples.rows(data / "classes")} <= {"red", "green"}


def test_a_wrong_file_ends_with_2_and_one_line(head: Head, bucket: str, tmp_path: Path) -> None:
    wrong = yaml.safe_load((ROOT / "deploy/caption.yaml").read_text())
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump({**wrong, "promt": "x"}))
    process = submit(head, str(path), bucket, "wrong")
    process.communicate(timeout=100)
    assert process.returncode != 0
    assert head.job("wrong")["driver_exit_code"] == 2
    told = [line for line in head.log("wrong").splitlines() if "gemma3-batch: " in line]
    assert len(told) == 1
    assert "promt: there is no such option; did you mean 'prompt'?" in told[0]
    assert f"{path}:" in told[0]
