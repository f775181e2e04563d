"""Says which class vLLM will run for a Gemma 3, without importing it or vLLM."""

from __future__ import annotations

from importlib.metadata import entry_points

from gemma3_model.registration import MODEL_CLASSES

PLUGINS = "vllm.general_plugins"
PLUGIN = "gemma3_batch"


def model_class() -> str | None:
    """`module.class` of a Gemma 3 with images; None where vLLM would not find our plugin."""
    if not entry_points(group=PLUGINS, name=PLUGIN):
        return None
    return MODEL_CLASSES["Gemma3ForConditionalGeneration"].replace(":", ".")
