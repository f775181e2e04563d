"""Decides how vLLM is configured.

In short: quiet, no usage statistics, prefix caching also for local layers, guided JSON without free
white space, no compilation on a CPU. What the user sets in `engine_args` wins over all of it. Which
class runs the model is decided by the plugin (`gemma3_model`). vLLM is imported inside functions.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import os
import reprlib
import types
import typing
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from pipeline.contract.config import REQUESTS_WITH_IMAGES
from pipeline.contract.errors import UserError, one_line
from pipeline.contract.suggest import suggestion
from pipeline.engine.adapters import vllm_arguments
from pipeline.engine.model_files import model_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pipeline.contract.config import EngineConfig

LOADED_MODEL = "gemma3_model.inspection.LoadedModel"
"""Worker extension that reports which class the engine really loaded."""
LARGE_GPU = 70 * 2**30
"""Bytes; vLLM (0.32) has the same border between its own defaults."""
ENVIRONMENT = {
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",  # nothing about anyone's data leaves the machine
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB; vLLM would take half of the memory
    "TOKENIZERS_PARALLELISM": "false",
}
"""Environment variables that are set unless the user has set them."""
LOADERS = {
    "runai_streamer": "runai_model_streamer",
    "runai_streamer_sharded": "runai_model_streamer",
    "fastsafetensors": "fastsafetensors",
    "instanttensor": "instanttensor",
    "tensorizer": "tensorizer",
}
"""Which package vLLM (0.32) imports for a `load_format`, once the engine starts."""


def compile_cache() -> str:
    """The folder, on each machine, in which vLLM keeps what it compiled for the next start."""
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.environ.get("VLLM_CACHE_ROOT") or os.path.join(caches, "vllm")


def prepare_process() -> None:
    """Set `ENVIRONMENT` in this process and load our plugin; before vLLM is used in it."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from vllm.platforms import current_platform
    from vllm.plugins import load_general_plugins

    load_general_plugins()
    if current_platform.is_cpu():
        # With `enforce_eager` vLLM (0.32) compiles nothing but a part of its sampler, which needs a
        # C++ compiler (`InvalidCxxCompiler` without one; pull request 47756).
        os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")


def check_engine_args(config: EngineConfig) -> None:
    """Check names and types of `engine_args`, as far as that needs no device.

    For a driver, before anything starts. Imports vLLM, so it does so only where there are any.

    Raises:
        UserError: vLLM's engine does not take an argument, or not such a value.
    """
    if config.engine_args:
        _check_names(config.engine_args, declared_names())
        prepare_process()
        engine_args(config)


def declared_names() -> list[str]:
    """The fields of vLLM's `AsyncEngineArgs`, read from its source: importing it takes seconds.

    Returns:
        Their names; none where the source is not as in vLLM 0.32.
    """
    package = importlib.util.find_spec("vllm")
    if package is None or not package.submodule_search_locations:
        return []
    path = os.path.join(package.submodule_search_locations[0], "engine", "arg_utils.py")
    with contextlib.suppress(OSError, SyntaxError), open(path, encoding="utf-8") as file:
        classes = [node for node in ast.parse(file.read()).body if isinstance(node, ast.ClassDef)]
        return [
            field.target.id
            for one in classes
            if one.name in ("EngineArgs", "AsyncEngineArgs")
            for field in one.body
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        ]
    return []


def engine_args(config: EngineConfig) -> Any:
    """vLLM's `AsyncEngineArgs` for an engine.

    Args:
        config: The engine; its `engine_args` win over ours.

    Raises:
        UserError: One of `config.engine_args` is not an argument of vLLM's engine, or has a value
            that it does not take.
    """
    from vllm.config import StructuredOutputsConfig
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.platforms import current_platform

    _check_names(config.engine_args, [field.name for field in fields(AsyncEngineArgs)])
    for name, value in config.engine_args.items():
        _check_type(name, value)
    _check_loader(config.engine_args.get("load_format"))
    is_cpu = current_platform.is_cpu()
    ours: dict[str, Any] = {
        "model": str(model_folder(config.model)),
        "dtype": config.dtype,
        "max_model_len": config.max_model_len,
        "max_num_seqs": _requests(config),
        "tensor_parallel_size": config.tensor_parallel_size,
        "limit_mm_per_prompt": {"image": config.max_images},
        "mm_processor_kwargs": {"do_pan_and_scan": True} if config.pan_and_scan else None,
        "enable_prefix_caching": True,
        # By default vLLM (0.32) caches for local layers only what the end of a prompt needs: two
        # requests whose common prefix is longer than the window would share none of it.
        "prefix_cache_retention_interval": None,
        # Requests arrive rendered from other processes, so this cache would never be hit.
        "mm_processor_cache_gb": 0,
        # On a CPU compiling takes longer than it saves, and needs a C++ compiler.
        "enforce_eager": is_cpu,
        # If white space is free, a model can write nothing else until its limit.
        "structured_outputs_config": StructuredOutputsConfig(
            backend="xgrammar", disable_any_whitespace=True
        ),
        "worker_extension_cls": LOADED_MODEL,
        "disable_log_stats": True,
        **vllm_arguments(config),
    }
    with refusals_in_a_line(config):
        return AsyncEngineArgs(**{**ours, **config.engine_args})


def _requests(config: EngineConfig) -> int:
    """Requests at once: the user's, or as many as suit the device.

    More of them need more memory for logits, which have an entry for each of 262,144 tokens: 1 GiB
    for 1,024 requests, and five times that where answers are drawn from sorted probabilities.
    """
    from vllm.platforms import current_platform

    wanted = config.requests(on_gpu=not current_platform.is_cpu())
    if config.max_num_seqs is not None or not current_platform.is_cuda_alike():
        return wanted
    is_large = current_platform.get_device_total_memory() >= LARGE_GPU
    return wanted if is_large else min(wanted, REQUESTS_WITH_IMAGES)


@contextlib.contextmanager
def refusals_in_a_line(config: EngineConfig) -> Iterator[None]:
    """Make what vLLM says of a wrong argument, or combination, a `UserError` that names it.

    Raises:
        UserError: In the place of what is raised within.
    """
    try:
        yield
    except (TypeError, ValueError, AttributeError, KeyError) as error:  # also pydantic's
        if isinstance(error, UserError):
            raise
        text = _first_fault(error) if isinstance(error, ValidationError) else one_line(error)
        named = [name for name in config.engine_args if name in text] or [*config.engine_args]
        what = f"engine_args ({', '.join(named)})" if named else f"model {config.model}"
        raise UserError(f"{what}: vLLM says: {text}") from error


def _check_names(names: Iterable[str], known: list[str]) -> None:
    for name in names if known else ():
        if name not in known:
            guess = suggestion(name, known)
            raise UserError(
                f"engine_args: vLLM's engine takes no '{name}'; {guess or 'take it out'}".strip()
            )


def _check_loader(load_format: object) -> None:
    """Check that the package of a loader that streams the weights is installed."""
    package = LOADERS.get(str(load_format))
    if package is not None and importlib.util.find_spec(package) is None:
        raise UserError(
            f"engine_args: load_format {load_format} needs a package: pip install "
            f"{package.replace('_', '-')}"
        )


def _check_type(name: str, value: object) -> None:
    """Check a value against the type that vLLM declares for an argument, where that can be done."""
    from vllm.engine import arg_utils

    declared = {field.name: field.type for field in fields(arg_utils.AsyncEngineArgs)}[name]
    holder: Any = types.SimpleNamespace(__annotations__={name: declared})
    try:
        kind = typing.get_type_hints(holder, globalns=vars(arg_utils), include_extras=True)[name]
        adapter: TypeAdapter[Any] = TypeAdapter(kind)
    except (PydanticUserError, NameError):  # two of 257 (0.32)
        return
    try:
        adapter.validate_python(value)
    except ValidationError as error:
        message, shown = error.errors()[0]["msg"], reprlib.repr(value)
        message = message[0].lower() + message[1:]
        raise UserError(f"engine_args: {name}: {message} (got {shown})") from None


def _first_fault(error: ValidationError) -> str:
    fault = error.errors()[0]
    place = ".".join(map(str, fault["loc"]))
    message = fault["msg"].removeprefix("Value error, ")
    return f"{place}: {message} (got {reprlib.repr(fault['input'])})" if place else message
