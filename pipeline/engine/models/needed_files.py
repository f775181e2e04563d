"""Decides which files of a repository or a folder in a store are needed of a model.

All that lie directly in it, but for the same weights in other formats: PyTorch's own beside
safetensors (the hub's Gemma 3 has none, many fine-tunes have), GGUF, ONNX, those for other
frameworks, `original/` and checkpoints of a training in folders of their own. What is small is
taken whatever it is, so that a model has the same identity by its name as by a folder of it.
"""

from __future__ import annotations

from fnmatch import fnmatch

FOLDERS = "*/*"
OTHER_FORMATS = (
    *(f"*.{suffix}" for suffix in ("bin", "pt", "pth", "ckpt", "pkl", "msgpack", "h5", "tflite")),
    *(f"*.{suffix}" for suffix in ("onnx", "onnx_data", "gguf", "ot", "nemo", "task", "zip")),
    "consolidated*.safetensors",
)
HIDDEN = ".*"
NOT_NEEDED = (FOLDERS, HIDDEN, *OTHER_FORMATS)
"""Patterns of names that are left out; `huggingface_hub` takes them as they are."""
INDEX = "model.safetensors.index.json"
"""Which of several files has which weight."""
WEIGHTS = ("*.safetensors",)
"""What renderers, which read no weights, leave out as well."""


def left_out(*, weights: bool) -> tuple[str, ...]:
    """Patterns of the files that are not needed.

    Args:
        weights: Whether the weights are.
    """
    return NOT_NEEDED if weights else (*NOT_NEEDED, *WEIGHTS)


def is_needed(name: str, *, weights: bool) -> bool:
    """Whether a file is needed, by its path from the model's folder."""
    return not any(fnmatch(name, pattern) for pattern in left_out(weights=weights))
