"""What a user may set, as frozen models that check it and name the field that is wrong.

Each setting is declared here once, with its default, its limits and the line that `--help` shows:
`EngineSettings` go to the engine, `RunSettings` to the run. The jobs' options inherit both. What a
job asks of the model (prompt, columns) is declared by the job.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    field_validator,
)

Dtype = Literal["auto", "float32", "bfloat16"]
PromptFormat = Literal["raw", "gemma", "template"]
"""Raw text that is continued, Gemma's turns, or the checkpoint's own chat template."""
PanAndScan = Annotated[bool, Field(description="Show long, narrow images in crops as well.")]
REQUESTS_ON_GPU = 1024
REQUESTS_WITH_IMAGES = 256
REQUESTS_ON_CPU = 64
"""Requests that one engine works on at once by default: on a GPU, with images, and on a CPU.

A decode step of 256 texts leaves half of an H200 unused, and datatrove's benchmark of Gemma 3 on an
H100 is best with 1,024. Images keep a GPU busy with far fewer: of a caption's time half is the
vision tower's, however many rows there are, and an answer of one token is in one step only.
"""
OUTPUT_FORMATS = ("parquet", "jsonl", "csv", "webdataset")
"""What `output_format` may be; `output.formats` has a module for each."""
OUR_ENGINE_ARGS = (
    "limit_mm_per_prompt",
    "mm_processor_cache_gb",
    "mm_processor_kwargs",
    "worker_extension_cls",
)
"""Arguments of vLLM's engine that we set ourselves."""


def _not_blank(value: str) -> str:
    """As a shell variable that is not set."""
    if not value.strip():
        raise ValueError("is empty; give it a value")
    return value


def _output_format(value: str) -> str:
    """As a Literal would, but it knows a format that people ask for and what to do instead."""
    if value == "lance":
        raise ValueError(
            "lance has one index for all files, which a kill could leave half written; write "
            "parquet, then lance.write_dataset(pyarrow.dataset.dataset(OUTPUT), NEW)"
        )
    if value not in OUTPUT_FORMATS:
        raise ValueError(f"should be one of {', '.join(OUTPUT_FORMATS)}")
    return value


OutputFormat = Annotated[str, AfterValidator(_output_format)]
"""The format of the parts."""
Named = Annotated[str, AfterValidator(_not_blank)]
"""A path or a URI."""


class Settings(BaseModel):
    """Frozen; unknown names are refused. Texts keep their white space, which a prompt may need."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class EngineSettings(Settings):
    """How one engine replica runs, whatever the model."""

    prompt_format: PromptFormat | None = Field(
        None,
        description=(
            "raw (text that is continued, for base models), gemma (Gemma's turns) or template (the "
            "checkpoint's own chat template, by default)."
        ),
    )
    max_model_len: PositiveInt = Field(
        8192, description="Longest prompt with its answer, in tokens; the model's limit, if lower."
    )
    max_num_seqs: PositiveInt | None = Field(
        None,
        description=(
            f"Requests one engine works on at once; by default {REQUESTS_ON_GPU}, with images or "
            f"on a GPU of less than 70 GiB {REQUESTS_WITH_IMAGES}, on a CPU {REQUESTS_ON_CPU}."
        ),
    )
    tensor_parallel_size: PositiveInt = Field(1, description="GPUs of one engine.")
    stall_seconds: float = Field(
        900.0,
        gt=0,
        description="End a process that has made no progress for so long; its rows are retried.",
    )
    engine_args: Mapping[str, Any] = Field(
        default_factory=dict, description="Further arguments of vLLM's engine: NAME=VALUE,... ."
    )


class EngineConfig(EngineSettings):
    """The model, and how one engine replica runs it."""

    model: Named
    """Folder of the checkpoint, as Hugging Face lays it out."""
    dtype: Dtype = "auto"
    """`auto` runs float32 checkpoints in bfloat16, as vLLM does."""
    max_images: PositiveInt = 1
    """Most images in one request."""
    pan_and_scan: PanAndScan = False
    has_images: bool = True
    """Whether requests may have images; a run knows it from its task."""

    def requests(self, *, on_gpu: bool) -> int:
        """`max_num_seqs`, or the default of the device and of what is asked."""
        if self.max_num_seqs is not None or not on_gpu:
            return self.max_num_seqs or REQUESTS_ON_CPU
        return REQUESTS_WITH_IMAGES if self.has_images else REQUESTS_ON_GPU

    @field_validator("engine_args")
    @classmethod
    def _leaves_ours_alone(cls, value: Mapping[str, Any]) -> Mapping[str, Any]:
        taken = sorted(value.keys() & {*cls.model_fields, *OUR_ENGINE_ARGS})
        if taken:
            raise ValueError(f"'{taken[0]}' is not to be set here")
        return value


class RunSettings(Settings):
    """How rows are read, spread over the cluster and written."""

    engine_replicas: PositiveInt | None = Field(
        None, description="Engines; by default as many as the cluster's GPUs hold, one on a CPU."
    )
    render_workers: PositiveInt | None = Field(
        None,
        description=(
            "Processes that decode images and tokenize; by default what the CPUs allow, at most 16 "
            "for each engine."
        ),
    )
    unit_rows: PositiveInt = Field(
        2000, description="Rows of an output file; where row groups fit, they are kept whole."
    )
    keep_images: bool = Field(
        False, description="Copy binary input columns, images among them, to the output."
    )
    output_format: OutputFormat = Field(
        "parquet",
        description=(
            "Format of the output files: parquet, jsonl, csv or webdataset (tar shards with the "
            "images, the answers as .txt and the rest as .json)."
        ),
    )
    sidecars: bool = Field(
        False, description="Write each image's answer to a .txt file beside it, in INPUT."
    )
    overwrite_sidecars: bool = Field(
        False, description="Let sidecars replace .txt files that were there before."
    )
    max_image_bytes: PositiveInt = Field(
        100_000_000, description="An image file that is larger is not opened."
    )
    max_image_pixels: PositiveInt = Field(
        100_000_000, description="An image that declares more pixels is not decoded."
    )
    dedup: bool = Field(
        True, description="Compute rows of an output file that are identical only once."
    )
    max_error_rate: float | None = Field(
        None,
        ge=0,
        le=1,
        description=(
            "Stop once more than this share of a run's rows has failed; by default if the first "
            "200 all failed for one reason; 1 never stops."
        ),
    )
    new_version: bool = Field(
        False, description="Write to OUTPUT-v2 where OUTPUT has another prompt, model or setting."
    )
    single_driver: bool = Field(
        False, description="Accept a store that ignores conditional writes: no other run writes."
    )
    join: bool = Field(
        False, description="Work beside another run into the same OUTPUT; each row is done once."
    )
    allow_private_addresses: bool = Field(
        False, description="Follow links to images into private networks too."
    )
    storage_options: Mapping[str, Mapping[str, Any]] = Field(
        default_factory=dict,
        exclude=True,
        repr=False,
        description="Arguments of fsspec's filesystems by protocol, as JSON. Never recorded.",
    )


class RunConfig(RunSettings):
    """One run: where rows come from, where they go, and how the work is spread."""

    input: Named
    """Parquet, images, JSON lines or tar shards: a file, a folder or a glob; a path or a URI."""
    output: Named
    """Folder for the output files: a new one, or that of an earlier run of the same."""
    engine: EngineConfig
    block_rows: PositiveInt = 32
    """Rows that travel between the stages together."""
    fetch_seconds: float = Field(default=60.0, gt=0)
    """Most time to fetch one image behind a link or a URI, in seconds, retries included."""
    drain_seconds: float = Field(default=20.0, ge=0)
    """Seconds that a run continues after SIGTERM, to save what is in flight."""


def describe_fault(error: ValidationError) -> str:
    """One line that names the first wrong field of a configuration and what is wrong with it."""
    fault = error.errors()[0]
    field = ".".join(str(part) for part in fault["loc"])
    message = fault["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if fault["loc"][:1] == ("storage_options",):  # they hold credentials
        return f"{field}: {message}"
    return f"{field}: {message} (got {reprlib.repr(fault['input'])})"
