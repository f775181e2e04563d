"""Makes Triton's interpreter stand for a GPU's compiler, in every process of `make test-kernels`.

Python imports it by its name, at start, so that engine processes have it too: Triton must be told
before it is imported, and vLLM for CPUs turns it off unless it finds a backend named "cpu".
"""

import os
from types import SimpleNamespace

os.environ["TRITON_INTERPRET"] = "1"

import triton.backends

# vLLM asks only whether one is there and awake; the interpreter compiles nothing.
triton.backends.backends["cpu"] = SimpleNamespace(driver=SimpleNamespace(is_active=lambda: True))
