"""Decides which architectures run our classes, and registers their engine rules.

Light: importing this module imports neither torch nor vLLM.
"""

from __future__ import annotations

from importlib import import_module
from typing import Final

MODEL_CLASSES: Final = {
    "Gemma3ForConditionalGeneration": "gemma3_model.model:Gemma3ForConditionalGeneration",
    "Gemma3ForCausalLM": "gemma3_model.text:Gemma3ForCausalLM",
    "ShieldGemma2ForImageClassification": ("gemma3_model.model:ShieldGemma2ForImageClassification"),
}
"""Architecture in a checkpoint's ``config.json`` -> ``module:class`` that runs it."""


def register() -> None:
    """Replace vLLM's classes by ours for every architecture in :data:`MODEL_CLASSES`.

    vLLM calls this in each of its processes, possibly more than once; that is harmless.
    """
    from vllm import ModelRegistry
    from vllm.model_executor.models.config import MODELS_CONFIG_MAP

    from gemma3_model.engine_rules import Gemma3EngineRules

    for architecture, location in MODEL_CLASSES.items():
        ModelRegistry.register_model(architecture, location)
        MODELS_CONFIG_MAP[architecture] = Gemma3EngineRules


def register_loaded() -> None:
    """:func:`register`, with the classes imported; for the process that is to run one.

    By a name alone, vLLM (0.32) imports a class in a process of its own first, to look at it, which
    takes ten seconds wherever its cache does not know the class yet.
    """
    from vllm import ModelRegistry

    for architecture, location in MODEL_CLASSES.items():
        module, name = location.split(":")
        ModelRegistry.register_model(architecture, getattr(import_module(module), name))
