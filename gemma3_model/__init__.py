"""Gemma 3 as our own vLLM model.

vLLM finds :func:`register` through the ``vllm.general_plugins`` entry point and calls it in
every process it starts. Importing this package imports neither torch nor vLLM.

The path of a token: ``processor`` (images and prompt to ids and pixels) -> ``vision`` ->
``projector`` -> ``text`` (``layers``, ``rope``, ``attention``) -> logits. ``model`` composes
them behind vLLM's interfaces; ``weights`` is the one table of checkpoint names.
"""

from gemma3_model.registration import register

__all__ = ["register"]
