"""The root of an image without Docker: runs a Dockerfile's own lines in a folder, by chroot.

    python -m tests.deploy.image_root DOCKERFILE FOLDER             build it
    python -m tests.deploy.image_root DOCKERFILE FOLDER COMMAND...  and run the image with that

The base is what `debootstrap` makes of the same Debian release. RUN, COPY, ENV, WORKDIR, USER and
ENTRYPOINT do what Docker makes them do, and `.dockerignore` is kept. What Docker adds (layers,
cgroups, seccomp, a network of its own) is not there. How this machine reaches its package index
(pip's configuration, certificates) is lent to RUN and is not in the root afterwards.

Needs root, Debian's `debootstrap`, and mounts in a namespace of its own, which end with it.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.deploy.dockerfile import Instruction, Stage, expand, read

ROOT = Path(__file__).parents[2]
LENT = "run/machine"
"""Where in the root the machine's own files are while it is built."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MOUNTS = (("proc", "proc"), ("sysfs", "sys"), ("tmpfs", "dev/shm"), ("tmpfs", LENT))
UNSHARED = "GEMMA3_BATCH_UNSHARED"
DEBIAN = "http://deb.debian.org/debian"


@dataclass
class Image:
    """A root that instructions are carried out in.

    Attributes:
        root: The folder.
        environment: As ENV has set it.
        folder: As WORKDIR has set it, within the root.
        user: As USER has set it: `UID:GID`.
        entrypoint: The command's first words.
        cmd: Those that follow unless others are given.
    """

    root: Path
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": PATH})
    folder: str = "/"
    user: str = "0:0"
    entrypoint: list[str] = field(default_factory=list)
    cmd: list[str] = field(default_factory=list)

    def inside(self, path: str) -> Path:
        """A path of the image, as one of this machine's."""
        return self.root / os.path.join(self.folder, path).lstrip("/")

    def copy(self, root: Path) -> Image:
        """The same in another folder, as a stage that begins with it has it."""
        shutil.rmtree(root, ignore_errors=True)
        subprocess.run(["cp", "--archive", self.root, root], check=True)
        return Image(root, dict(self.environment), self.folder, self.user)

    def call(self, command: list[str], extra: dict[str, str] | None = None) -> None:
        """Run a command as the image's user, with nothing of this machine's environment."""
        variables = {"HOME": self.home(), **self.environment, **(extra or {})}
        pairs = [f"{name}={value}" for name, value in variables.items()]
        enter = ["chroot", f"--userspec={self.user}", str(self.root)]
        clean = ["env", "--ignore-environment", f"--chdir={self.folder}", *pairs]
        subprocess.run([*enter, *clean, *command], check=True)

    def home(self) -> str:
        """The user's home folder, as the image's list of users has it."""
        uid = self.user.partition(":")[0]
        entries = (self.root / "etc/passwd").read_text().splitlines()
        homes = {entry.split(":")[2]: entry.split(":")[5] for entry in entries}
        return homes.get(uid, "/")


def build(dockerfile: Path, folder: Path) -> Image:
    """Carry out all stages; gives the image of the last one."""
    made: dict[str, Image] = {}
    for number, stage in enumerate(read(dockerfile)):
        root = folder / (stage.name or f"stage-{number}")
        image = made[stage.base].copy(root) if stage.base in made else debian(stage.base, root)
        with_mounts(image.root)
        for instruction in stage.instructions:
            print(f"--- {instruction.name} {instruction.text[:100]}", flush=True)
            carry_out(instruction, image, made)
        without_mounts(image.root)
        made[stage.name or str(number)] = image
    return image


def debian(base: str, root: Path) -> Image:
    """What the base image has, from the packages of its release."""
    release = re.fullmatch(r"debian:(\w+)-\d{8}-slim@sha256:[0-9a-f]{64}", base)
    assert release, f"not a Debian image that is pinned by digest: {base}"
    kept = root.parent / release[1]
    if not (kept / "etc/debian_version").exists() or (kept / "debootstrap").exists():
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
        subprocess.run(["debootstrap", "--variant=minbase", release[1], kept, DEBIAN], check=True)
    return Image(kept).copy(root)


def carry_out(instruction: Instruction, image: Image, made: dict[str, Image]) -> None:
    """Do what one instruction says."""
    words = [expand(word, image.environment) for word in instruction.words]
    if instruction.name == "RUN":
        image.call(["/bin/sh", "-c", instruction.text], lend(image.root))
    elif instruction.name == "COPY":
        copy(words, image, made)
    elif instruction.name == "ENV":
        before = dict(image.environment)
        for name, value in instruction.assignments.items():
            image.environment[name] = expand(value, before)
    elif instruction.name == "WORKDIR":
        image.folder = os.path.join(image.folder, words[0])
        image.inside("").mkdir(parents=True, exist_ok=True)
    elif instruction.name == "USER":
        image.user = words[0]
    elif instruction.name in ("ENTRYPOINT", "CMD"):
        setattr(image, instruction.name.lower(), words)


def copy(words: list[str], image: Image, made: dict[str, Image]) -> None:
    """COPY, from the repository or from an earlier stage."""
    *options, target = words
    sources = [word for word in options if not word.startswith("--")]
    stages = [word.removeprefix("--from=") for word in options if word.startswith("--from=")]
    assert len(sources) + len(stages) == len(options), f"COPY {words} is not understood"
    into = target.endswith("/") or len(sources) > 1
    for source in sources:
        place = image.inside(target)
        if into:
            place /= Path(source).name
        origin = made[stages[0]].inside(source) if stages else ROOT / source
        place.parent.mkdir(parents=True, exist_ok=True)
        if stages:
            subprocess.run(["cp", "--archive", "--no-target-directory", origin, place], check=True)
        else:
            copy_from_context(origin, place)


def copy_from_context(source: Path, target: Path) -> None:
    """Copy what `.dockerignore` does not keep out; that nothing is left is an error."""
    files = [source] if source.is_file() else [*source.rglob("*")]
    wanted = [file for file in files if file.is_file() and not is_ignored(file)]
    assert wanted, f"COPY {source.relative_to(ROOT)}: .dockerignore keeps it out"
    for file in wanted:
        place = target / file.relative_to(source) if source.is_dir() else target
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)


def is_ignored(file: Path) -> bool:
    """Whether `.dockerignore` keeps a file of the repository out; its last match decides."""
    parts = file.relative_to(ROOT).parts
    paths = ["/".join(parts[:n]) for n in range(1, len(parts) + 1)]
    ignored = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!").removeprefix("**/")
        if line.startswith("#") or not line:
            continue
        tried = (
            parts
            if "**/" in line
            else [path for path in paths if pattern.count("/") == path.count("/")]
        )
        if any(fnmatch.fnmatchcase(each, pattern) for each in tried):
            ignored = not line.startswith("!")
    return ignored


def with_mounts(root: Path) -> None:
    """What a container has: processes, devices, shared memory; and room for what is lent."""
    subprocess.run(["mount", "--rbind", "/dev", root / "dev"], check=True)
    for kind, place in MOUNTS:
        (root / place).mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", kind, kind, root / place], check=True)
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")


def without_mounts(root: Path) -> None:
    """Take the mounts away again, and what was lent."""
    for place in (*(place for _, place in reversed(MOUNTS)), "dev"):
        subprocess.run(["umount", "--recursive", "--lazy", root / place], check=True)
    (root / LENT).rmdir()


def lend(root: Path) -> dict[str, str]:
    """Environment variables by which RUN reaches this machine's package index."""
    lent: dict[str, str] = {}
    for name, value in [*pip_settings(), *certificates()]:
        words = [lend_path(root, word) for word in value.split()]
        lent[name] = " ".join(words)
    proxies = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    return {**proxies, **lent}


def pip_settings() -> Iterator[tuple[str, str]]:
    """This machine's pip configuration, as environment variables."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        name = key.rpartition(".")[2].replace("-", "_").upper()
        is_local = "file://" in value  # such an index links to files beside it
        if name in ("CERT", "FIND_LINKS", "INDEX_URL", "EXTRA_INDEX_URL") and not is_local:
            yield f"PIP_{name}", value.strip("'")


def certificates() -> Iterator[tuple[str, str]]:
    """Where this machine's own certificate authorities are, if they are named."""
    if "SSL_CERT_FILE" in os.environ:
        yield "SSL_CERT_FILE", os.environ["SSL_CERT_FILE"]


def lend_path(root: Path, word: str) -> str:
    """Show the root a file or folder of this machine; gives the word that names it there."""
    path = Path(word.removeprefix("file://"))
    if not path.is_absolute() or not path.exists():
        return word
    name = str(path).strip("/").replace("/", "-")
    place = root / LENT / name
    if not place.exists():
        if path.is_file():
            shutil.copy(path, place)
        else:
            place.mkdir()
            subprocess.run(["mount", "--bind", path, place], check=True)
    return word.replace(str(path), f"/{LENT}/{name}")


def run(image: Image, command: list[str]) -> None:
    """What `docker run --read-only --tmpfs /tmp --tmpfs HOME IMAGE COMMAND` does."""
    root = image.root
    (root / LENT).mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "--bind", root, root], check=True)
    with_mounts(root)
    uid, _, gid = image.user.partition(":")
    for place in ("tmp", image.home().lstrip("/")):
        mode = f"uid={uid},gid={gid},mode=1777"
        subprocess.run(["mount", "-t", "tmpfs", "-o", mode, "tmpfs", root / place], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", root], check=True)
    image.call(["id"])
    image.call([*image.entrypoint, *(command or image.cmd)])
    subprocess.run(["umount", "--recursive", "--lazy", root], check=True)
    (root / LENT).rmdir()


def main() -> None:
    """Build, and run what is asked for, in a mount namespace of its own."""
    if os.environ.get(UNSHARED) != "1":
        os.environ[UNSHARED] = "1"
        again = [sys.executable, "-m", "tests.deploy.image_root", *sys.argv[1:]]
        os.execvp("unshare", ["unshare", "--mount", "--pid", "--fork", "--kill-child", *again])
    dockerfile, folder, *command = sys.argv[1:]
    image = build(Path(dockerfile), Path(folder))
    size = subprocess.run(["du", "-sm", image.root], capture_output=True, text=True, check=True)
    print(f"--- {image.root}: {size.stdout.split()[0]} MB", flush=True)
    run(image, command)


__all__ = ["Image", "Stage", "build", "run"]

if __name__ == "__main__":
    main()
