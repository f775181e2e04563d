"""The jobs people come for, as functions; each is also a command of `gemma3-batch`.

Importing this package imports neither torch, vllm nor ray.
"""

from jobs.captions import caption

__all__ = ["caption"]
