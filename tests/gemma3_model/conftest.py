"""One engine at a time, in this process, so that a test can reach into the model."""

from __future__ import annotations

import os

# Read by vLLM when it is first imported, which is before any fixture runs.
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Sampling with log-probabilities would compile a kernel first, which takes eleven seconds.
os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
