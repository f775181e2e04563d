"""Decides how a running engine says what it loaded.

Give :class:`LoadedModel` to an engine as ``worker_extension_cls``; its methods can then be
called on the workers through ``collective_rpc``. Light: imports neither torch nor vLLM.
"""

from __future__ import annotations

from typing import Any, Final

WORKER_EXTENSION: Final = "gemma3_model.inspection.LoadedModel"
"""What ``worker_extension_cls`` is set to."""


class LoadedModel:
    """Methods that vLLM adds to its worker class."""

    model_runner: Any

    def loaded_model_class(self) -> str:
        """``module.Class`` of the model in this worker, read from the live object."""
        # A worker with LoRA or compilation may wrap the model; the class asked for is inside.
        model = self.model_runner.get_model()
        return f"{type(model).__module__}.{type(model).__qualname__}"

    def attention_backends(self) -> list[str]:
        """``module.Class`` of every kind of attention the decoder's layers run with, sorted."""
        layers = self.model_runner.compilation_config.static_forward_context.values()
        kinds = {layer.attn_backend for layer in layers if hasattr(layer, "attn_backend")}
        return sorted(f"{kind.__module__}.{kind.__qualname__}" for kind in kinds)
