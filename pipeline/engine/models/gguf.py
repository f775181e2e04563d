"""A model in a GGUF file: `gemma-3-1b-it-Q4_K_M.gguf`, of texts alone.

vLLM (0.32) reads no GGUF, so the file is converted once on each machine, to bfloat16, into our
cache. Decides by what a file is known again, and what is said where it cannot be converted. Which
tensor is which is transformers' and `gguf`'s knowledge (the extra `gguf`).
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from pipeline.contract.errors import UserError
from pipeline.engine.models import gguf_conversion
from pipeline.engine.models.cache import cache, locked, tell

if TYPE_CHECKING:
    from pipeline.storage.location import StorageOptions

SUFFIX = ".gguf"
NEEDED = ("gguf", "accelerate")
"""What the conversion needs beside transformers, which comes with vLLM."""
VERSION = 1
"""Of the conversion: what an earlier one wrote is not used."""
SAMPLES = 64
SAMPLE_BYTES = 64 * 1024


@dataclass(frozen=True, kw_only=True)
class GgufFile:
    """A file.

    Attributes:
        path: Absolute.
    """

    path: Path
    is_pinned = True
    """A path is a name that other machines know, or `shared_folders` refuses it."""

    @classmethod
    def parse(cls, name: str) -> GgufFile | None:
        """The file that a name is; None if it is no GGUF file's.

        Raises:
            UserError: It is that of a file in a store, or there is none.
        """
        if not name.lower().endswith(SUFFIX):
            return None
        if "://" in name:
            raise UserError(f"model {name}: GGUF is read from a disk; download the file first")
        path = Path(name).expanduser().absolute()
        if path.is_dir():
            return None
        if not path.is_file():
            raise UserError(f"model {name}: there is no such file")
        return cls(path=path)

    def pinned(self, options: StorageOptions) -> str:
        """The absolute path."""
        return str(self.path)

    def folder(self, *, weights: bool = True) -> Path | None:
        """The folder of the converted model; None where it has not been converted yet."""
        made = self._made()
        return made if made.exists() else None

    def fetch(self, options: StorageOptions, *, weights: bool) -> None:
        """Convert it, unless that was done before. Takes seconds to minutes.

        Raises:
            UserError: It is not a Gemma 3's, or cannot be read; or the extra is not installed.
        """
        if self.folder() is not None:
            return
        for package in NEEDED:
            if importlib.util.find_spec(package) is None:
                raise UserError(
                    f"model {self.path}: to read GGUF, '{package}' must be installed: "
                    f"pip install {' '.join(NEEDED)}"
                )
        made = self._made()
        work = made.with_name(f"{made.name}.partial")
        with locked(work) as lock:
            if made.exists():
                return
            shutil.rmtree(work)  # what is left of a conversion that was killed
            tell(f"converting {self.path}; some minutes, once")
            self._convert(work, lock)
            os.replace(work, made)

    def _convert(self, folder: Path, lock: IO[str]) -> None:
        done = subprocess.run(  # noqa: S603  ourselves
            [sys.executable, "-m", gguf_conversion.__name__, str(self.path), str(folder)],
            env={**os.environ, **ENVIRONMENT, "PYTHONPATH": _python_path()},
            pass_fds=[lock.fileno()],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            return
        shutil.rmtree(folder, ignore_errors=True)
        if done.returncode == gguf_conversion.REFUSED:
            raise UserError(f"model {self.path} {done.stdout.strip()}")
        said = [*filter(None, map(str.strip, done.stderr.splitlines()))] or [f"{done.returncode}"]
        raise UserError(f"model {self.path} cannot be converted: {said[-1][:300]}")

    def _made(self) -> Path:
        return cache() / "gguf" / f"{self.path.stem}-{_digest(self.path)}"


ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
"""Of the conversion, which has all it needs."""


def _python_path() -> str:
    return os.pathsep.join(path or os.getcwd() for path in sys.path)


def _digest(file: Path) -> str:
    """Of the size and of samples: all metadata of a small model, and places in every tensor."""
    size = file.stat().st_size
    hashed = hashlib.sha256(f"{VERSION} {size}\n".encode())
    with file.open("rb") as stream:
        for place in range(SAMPLES):
            stream.seek(max(0, size - SAMPLE_BYTES) * place // (SAMPLES - 1))
            hashed.update(stream.read(SAMPLE_BYTES))
    return hashed.hexdigest()[:16]
