"""The images: that their Dockerfiles are clean and alike; at length, that one of them works."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from deploy.sbom import pins
from tests.deploy import dockerfile, image_root
from tests.deploy.cluster import BIN, ROOT
from tests.deploy.dockerfile import Stage, read
from tests.mounts import can_mount

DOCKER = ROOT / "deploy/docker"
KINDS = {"cpu": "cpu", "cuda": "gpu"}
"""The extra, whose lock it is, by the image's kind."""


def stages(kind: str) -> list[Stage]:
    return read(DOCKER / f"{kind}.Dockerfile")


@pytest.mark.parametrize("kind", KINDS)
def test_hadolint_finds_nothing(kind: str) -> None:
    command = [str(BIN / "hadolint"), str(DOCKER / f"{kind}.Dockerfile")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("kind", KINDS)
def test_its_base_is_pinned_by_digest(kind: str) -> None:
    base, build, final = stages(kind)
    assert re.fullmatch(r"debian:bookworm-\d{8}-slim@sha256:[0-9a-f]{64}", base.base)
    assert (build.base, final.base) == (base.name, base.name)


def test_both_have_the_same_base_and_end_in_the_same_way() -> None:
    of_cpu, of_cuda = stages("cpu"), stages("cuda")
    assert of_cpu[0].base == of_cuda[0].base
    for name in ("RUN", "COPY", "WORKDIR", "USER", "ENTRYPOINT", "CMD"):
        ends = [[each.text for each in built[-1].all_of(name)] for built in (of_cpu, of_cuda)]
        assert ends[0] == ends[1]


@pytest.mark.parametrize("kind", KINDS)
def test_it_runs_as_nobody_special(kind: str) -> None:
    final = stages(kind)[-1]
    (user,) = final.all_of("USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user.text)
    after = final.instructions[final.instructions.index(user) :]
    assert {each.name for each in after} == {"USER", "ENTRYPOINT", "CMD"}


@pytest.mark.parametrize("kind", KINDS)
def test_no_cache_stays_in_it(kind: str) -> None:
    for stage in stages(kind):
        for run in stage.all_of("RUN"):
            if "apt-get install" in run.text:
                assert "--no-install-recommends" in run.text
                assert run.text.endswith("rm -rf /var/lib/apt/lists/*")
            if "pip install" in run.text:
                assert "--no-cache-dir --no-deps" in run.text


@pytest.mark.parametrize(("kind", "extra"), KINDS.items())
def test_it_has_the_locked_versions_without_those_for_tests(kind: str, extra: str) -> None:
    (install,) = (run.text for run in stages(kind)[1].all_of("RUN") if "--requirement" in run.text)
    assert install.endswith(f"--requirement deploy/docker/{extra}.lock")
    image, whole = pins(DOCKER / f"{extra}.lock"), pins(ROOT / f"deploy/requirements-{extra}.lock")
    assert image.items() <= whole.items()
    assert {"pytest", "mypy", "moto", "av"} <= {*whole} - {*image}


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_comments_say_has_the_version(kind: str) -> None:
    text = (DOCKER / f"{kind}.Dockerfile").read_text()
    assert {*re.findall(r"gemma3-batch:(\S+?)-", text)} == {version("gemma3-batch")}


def test_the_context_has_the_packages_and_nothing_else() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    kept = [file for file in tracked if not image_root.is_ignored(ROOT / file)]
    packages = ("gemma3_model/", "jobs/", "pipeline/")
    others = {file for file in kept if not file.startswith(packages)}
    locks = {"deploy/docker/cpu.lock", "deploy/docker/gpu.lock"}
    assert others == {"LICENSE", "README.md", "pyproject.toml"} | locks
    assert all(file in kept for file in tracked if file.startswith(packages))
    assert image_root.is_ignored(ROOT / "jobs/__pycache__/x.pyc")
    assert image_root.is_ignored(ROOT / ".git/config")


def test_what_a_dockerfile_says(tmp_path: Path) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text(
        'FROM a AS b\n# c\nRUN x \\\n    # why\n    && y\nENV P=/q:$PATH R="1 2"\n'
        'FROM b\nCMD ["z"]\n'
    )
    first, second = read(path)
    assert (first.base, first.name, second.base) == ("a", "b", "b")
    run, env = first.instructions
    assert (run.name, run.text.split(), run.line) == ("RUN", ["x", "&&", "y"], 3)
    assert env.assignments == {"P": "/q:$PATH", "R": "1 2"}
    assert dockerfile.expand("/q:$PATH:${R}", {"PATH": "/p", "R": "1"}) == "/q:/p:1"
    assert second.instructions[0].words == ["z"]
    path.write_text("FROM a\nARG X\n")
    with pytest.raises(AssertionError, match="line 2: ARG is not understood"):
        read(path)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_the_image_s_root_captions_as_nobody_special(tmp_path: Path) -> None:
    """`make image-root`, which shows it as it goes."""
    if os.geteuid() or not shutil.which("debootstrap") or not can_mount():
        pytest.skip("needs root, debootstrap and mounts")
    command = [sys.executable, "-m", "tests.deploy.image_root", "deploy/docker/cpu.Dockerfile"]
    done = subprocess.run(
        [*command, str(tmp_path), "demo", "--rows", "60"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "uid=1000(gemma) gid=1000(gemma)" in done.stdout
    assert "60 of 60 captions" in done.stdout
    (root,) = tmp_path.glob("stage-2")
    assert not (root / image_root.LENT).exists()
    assert not [*root.glob("root/.cache/pip"), *root.glob("var/lib/apt/lists/*_Packages")]
