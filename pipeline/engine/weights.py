"""Whether the weights in a model's folder are whole, read from the files' headers.

A safetensors file is eight bytes with the length of its header, the header (JSON: each tensor's
type, shape and offsets), and the tensors. Nothing else is read, so this takes milliseconds.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.contract.errors import UserError
from pipeline.engine.model_files import AGAIN, POINTER, read_json, refuse_pointer
from pipeline.engine.models.needed_files import INDEX

LENGTH_BYTES = 8
MOST_HEADER_BYTES = 100_000_000
"""The format's own limit."""
NUMBERED = re.compile(r"(.+-)(\d{5})-of-(\d{5})\.safetensors")
"""How the files of one model are named, where there are several."""


@dataclass(frozen=True, kw_only=True)
class WeightsFile:
    """A safetensors file that is as long as its header says.

    Attributes:
        path: The file.
        header: Its first bytes, up to the tensors.
        tensors: Where each tensor begins and ends, from the start of the file.
    """

    path: Path
    header: bytes
    tensors: Mapping[str, tuple[int, int]]


def read_weights(model: str, path: Path) -> Sequence[WeightsFile]:
    """Read the headers of a folder's weights, and check that the files are complete.

    Args:
        model: The model, for the message.
        path: Its folder.

    Raises:
        UserError: There are none, or a file or a tensor is missing, empty or cut off.
    """
    found = [read_weights_file(model, file) for file in sorted(path.glob("*.safetensors"))]
    if not found:
        others = sorted(file.name for file in path.glob("*.gguf"))
        fix = f"name its file {others[0]}" if others else "download it completely"
        raise UserError(f"model {model} has no *.safetensors weights; {fix}")
    _check_numbers(model, [file.path.name for file in found])
    if (path / INDEX).exists():
        _check_index(model, read_json(model, path / INDEX), found)
    return found


def read_weights_file(model: str, path: Path) -> WeightsFile:
    """Read the header of one file, and check that it is complete.

    Args:
        model: The model, for the message.
        path: The file.

    Raises:
        UserError: It cannot be read, or is empty, cut off or no safetensors file.
    """
    fault = f"model {model}: {path.name} "
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            begin = file.read(len(POINTER))
            refuse_pointer(model, path.name, begin)
            length = int.from_bytes(begin[:LENGTH_BYTES], "little")
            is_possible = LENGTH_BYTES + 2 <= LENGTH_BYTES + length <= size
            if len(begin) < LENGTH_BYTES or not is_possible or length > MOST_HEADER_BYTES:
                what = "is empty" if not size else "is cut off or not a safetensors file"
                raise UserError(f"{fault}{what} ({size} bytes); {AGAIN}")
            file.seek(0)
            header = file.read(LENGTH_BYTES + length)
    except OSError as error:
        raise UserError(f"{fault}cannot be read ({error.strerror}); {AGAIN}") from None
    try:
        tensors = _offsets(json.loads(header[LENGTH_BYTES:]), len(header))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{fault}is damaged: its header cannot be read; {AGAIN}") from None
    end = max((end for _, end in tensors.values()), default=len(header))
    if end != size:
        raise UserError(f"{fault}has {size} bytes in the place of {end}; {AGAIN}")
    return WeightsFile(path=path, header=header, tensors=tensors)


def _offsets(header: Mapping[str, Any], start: int) -> dict[str, tuple[int, int]]:
    """Where tensors begin and end. Raises ValueError and others where the header is none."""
    found = {}
    for name, tensor in header.items():
        if name != "__metadata__":
            begin, end = map(int, tensor["data_offsets"])
            if not 0 <= begin <= end:
                raise ValueError(name)
            found[name] = (start + begin, start + end)
    return found


def _check_numbers(model: str, names: Sequence[str]) -> None:
    """Of `...-00001-of-00002.safetensors` there must be all."""
    numbers: dict[tuple[str, str], set[int]] = defaultdict(set)
    for name in names:
        if parts := NUMBERED.fullmatch(name):
            numbers[parts[1], parts[3]].add(int(parts[2]))
    for (stem, total), found in numbers.items():
        missing = sorted({*range(1, int(total) + 1)} - found)
        if missing:
            name = f"{stem}{missing[0]:05d}-of-{total}.safetensors"
            raise UserError(f"model {model} has no {name}; download it completely")


def _check_index(model: str, index: Mapping[str, Any], found: Sequence[WeightsFile]) -> None:
    files = {file.path.name: file.tensors for file in found}
    places = index.get("weight_map")
    if not isinstance(places, dict):
        raise UserError(f"model {model}: {INDEX} has no weight_map; {AGAIN}")
    for tensor, name in places.items():
        if name not in files:
            raise UserError(f"model {model} has no {name}, which {INDEX} names; {AGAIN}")
        if tensor not in files[name]:
            raise UserError(
                f"model {model}: {name} has no {tensor}, which {INDEX} places there; {AGAIN}"
            )
