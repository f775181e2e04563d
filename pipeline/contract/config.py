"""What a user may set, as frozen models that check it and name the field that is wrong.

Only settings that are wired. What a job asks of the model (prompt, columns) is the task's; where
values come from (command line, keyword arguments) is the caller's.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, field_validator

Dtype = Literal["auto", "float32", "bfloat16"]
REQUESTS_ON_GPU = 256
REQUESTS_ON_CPU = 64
"""What an engine works on at once by default."""
OUR_ENGINE_ARGS = (
    "limit_mm_per_prompt",
    "mm_processor_cache_gb",
    "mm_processor_kwargs",
    "worker_extension_cls",
)
"""Arguments of vLLM's engine that follow from how we use it."""


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class EngineConfig(_Config):
    """The model and how one engine replica runs it."""

    model: str = Field(min_length=1)
    """Folder of the checkpoint, as Hugging Face lays it out."""
    dtype: Dtype = "auto"
    """`auto` runs float32 checkpoints in bfloat16, as vLLM does."""
    max_model_len: PositiveInt = 8192
    """Longest prompt with its answer, in tokens; a checkpoint's own limit, where lower, holds."""
    max_num_seqs: PositiveInt | None = None
    """Requests one replica works on at once; see :meth:`requests`."""
    max_images: PositiveInt = 1
    """Most images in one request."""
    pan_and_scan: bool = False
    """Show large oblong images in crops as well, as the reference does."""
    tensor_parallel_size: PositiveInt = 1
    """GPUs of one replica."""
    stall_seconds: float = Field(default=900.0, gt=0)
    """A renderer that works on one row for so long, or an engine that gives no sign of life, is
    ended; its rows are tried again."""
    engine_args: Mapping[str, Any] = Field(default_factory=dict)
    """Further arguments of vLLM's engine (`gpu_memory_utilization`, `quantization`, ...)."""

    def requests(self, *, on_gpu: bool) -> int:
        """`max_num_seqs`, or the default of the device."""
        return self.max_num_seqs or (REQUESTS_ON_GPU if on_gpu else REQUESTS_ON_CPU)

    @field_validator("engine_args")
    @classmethod
    def _leaves_ours_alone(cls, value: Mapping[str, Any]) -> Mapping[str, Any]:
        taken = sorted(value.keys() & {*cls.model_fields, *OUR_ENGINE_ARGS})
        if taken:
            raise ValueError(f"'{taken[0]}' is not to be set here")
        return value


class RunConfig(_Config):
    """One run: where rows come from, where they go, and how the work is spread."""

    input: str = Field(min_length=1)
    """Parquet, images, JSON lines or tar shards: a file, a folder or a glob; a path or a URI."""
    output: str = Field(min_length=1)
    """Folder for the parquet files: a new one, or that of an earlier run of the same."""
    engine: EngineConfig
    engine_replicas: PositiveInt | None = None
    """Default: as many as the cluster's GPUs hold; one on a CPU."""
    render_workers: PositiveInt | None = None
    """Default: what the CPUs leave beside the engines, at most 16 for each engine."""
    unit_rows: PositiveInt = 2000
    """Rows of an output file; where row groups fit, they are kept whole."""
    block_rows: PositiveInt = 32
    """Rows that travel between the stages together."""
    keep_images: bool = False
    """Pass binary input columns, images among them, through to the output."""
    max_image_bytes: PositiveInt = 100_000_000
    """A larger file is not opened."""
    max_image_pixels: PositiveInt = 100_000_000
    """Width times height; an image that declares more is not decoded."""
    fetch_seconds: float = Field(default=60.0, gt=0)
    """Most time for one image behind a link, retries included."""
    allow_private_addresses: bool = False
    """Follow `https://` links to images into private networks too."""
    dedup: bool = True
    """Compute rows of a unit whose input columns are identical once."""
    max_error_rate: float | None = Field(default=None, ge=0, le=1)
    """Stop once more than this share of the finished rows has no results."""
    single_driver: bool = False
    """Only one run will ever write to OUTPUT at a time: its store may ignore conditions."""
    new_version: bool = False
    """Where OUTPUT holds another prompt, model or setting, write to OUTPUT-v2 (-v3, ...)."""
    drain_seconds: float = Field(default=20.0, ge=0)
    """How long a run that is told to end (SIGTERM) goes on to save what is in flight."""
    storage_options: Mapping[str, Mapping[str, Any]] = Field(
        default_factory=dict, exclude=True, repr=False
    )
    """Arguments of fsspec's filesystems, by protocol. Never recorded: they may hold credentials."""


def describe_fault(error: ValidationError) -> str:
    """One line that names the first wrong field of a configuration and what is wrong with it."""
    fault = error.errors()[0]
    field = ".".join(str(part) for part in fault["loc"])
    message = fault["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    return f"{field}: {message} (got {reprlib.repr(fault['input'])})"
