"""Small safetensors files, as the format's description says."""

from __future__ import annotations

import json
from pathlib import Path


def write_weights(file: Path, **tensors: bytes) -> None:
    """Write tensors of bytes, under the names of the keywords."""
    header, end = {}, 0
    for name, content in tensors.items():
        shape, offsets = [len(content)], [end, end + len(content)]
        header[name] = {"dtype": "U8", "shape": shape, "data_offsets": offsets}
        end += len(content)
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(tensors.values()))
