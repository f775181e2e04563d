"""Decides how a running engine reports which model class it loaded.

Give ``gemma3_model.inspection.LoadedModel`` to an engine as ``worker_extension_cls``; its methods
can then be called on the workers through ``collective_rpc``. Light: imports neither torch nor vLLM.
"""

from __future__ import annotations

from typing import Any


class LoadedModel:
    """A method that vLLM adds to its worker class."""

    model_runner: Any

    def loaded_model_class(self) -> str:
        """``module.Class`` of the model in this worker, read from the live object."""
        # Not `model`: a runner may hold it inside a wrapper for CUDA graphs.
        model = self.model_runner.get_model()
        return f"{type(model).__module__}.{type(model).__qualname__}"
