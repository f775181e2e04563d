"""What a user may set, as frozen models that check it and name the field that is wrong.

Each setting is declared here once, with its default, its limits and the line that `--help` shows:
`EngineSettings` go to the engine, `RunSettings` to the run; those that say which rows a run takes
are `SliceSettings`. The jobs' options inherit all of them. What a job asks of the model (prompt,
columns) is declared by the job.
"""

from __future__ import annotations

import itertools
import json
import re
import reprlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
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
REQUESTS_AT_ENDPOINT = 1024
"""Requests that a server is sent at once at most, by default; with images `REQUESTS_WITH_IMAGES`.
How many it is sent is found out (`engine.endpoint.concurrency`)."""
KEY_VARIABLES = ("GEMMA3_BATCH_API_KEY", "OPENAI_API_KEY")
"""Environment variables with the key to a server; the first one that is set."""
OUTPUT_FORMATS = ("parquet", "jsonl", "csv", "webdataset")
"""What `output_format` may be; `output.formats` has a module for each."""
OUR_ENGINE_ARGS = (
    "enable_lora",
    "hf_token",
    "limit_mm_per_prompt",
    "mm_processor_cache_gb",
    "mm_processor_kwargs",
    "worker_extension_cls",
)
"""Arguments of vLLM's engine that we set ourselves, and one that would be kept with the results:
`HF_TOKEN` in the environment is for that."""


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
UNNAMED = "adapter"
"""The name of a LoRA adapter that is the only one."""
NAMED_ADAPTER = re.compile(r"(?P<name>[\w.-]+)=(?P<path>.+)", re.DOTALL)


def _by_name(value: object) -> object:
    """Adapters by name, of `PATH`, `NAME=PATH,...`, a list of these, or a mapping."""
    if isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    if isinstance(value, str):
        if value.lstrip().startswith("{"):
            return _of_json(value)
        value = [_not_blank(value)]
    if not isinstance(value, list | tuple):
        return value
    adapters: dict[str, str] = {}
    for part in itertools.chain.from_iterable(str(each).split(",") for each in value):
        found = NAMED_ADAPTER.fullmatch(part.strip())
        name, path = (found["name"], found["path"]) if found else (UNNAMED, part.strip())
        if name in adapters:
            raise ValueError(
                f"two adapters are called '{name}'; give each a name of its own: NAME=PATH,..."
                if found
                else "give each of several adapters a name: NAME=PATH,..."
            )
        adapters[name] = path
    return adapters


def _of_json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"is not JSON: {error}") from None


Adapters = Annotated[Mapping[str, Named], BeforeValidator(_by_name)]
"""LoRA adapters by name."""


def _address(value: str) -> str:
    """Without a slash at its end; one that holds credentials, which are never recorded, is none."""
    value = value.strip()
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("should be the address of a server: http://host:8000/v1")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError(
            f"should hold no credentials and no query; set the server's key in {KEY_VARIABLES[0]}"
        )
    _ = parts.port  # raises ValueError for one that is none
    return value.rstrip("/")


Address = Annotated[str, AfterValidator(_address)]
"""Of a server: `http://host:8000/v1`."""


class Settings(BaseModel):
    """Frozen; unknown names are refused. Texts keep their white space, which a prompt may need."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class EngineSettings(Settings):
    """How one engine replica runs, whatever the model."""

    endpoint: Address | None = Field(
        None,
        description=(
            "OpenAI-compatible server that answers, instead of engines of the run's own: "
            f"http://host:8000/v1. Its key is read from {KEY_VARIABLES[0]} or {KEY_VARIABLES[1]}."
        ),
    )
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
            f"on a GPU of less than 70 GiB {REQUESTS_WITH_IMAGES}, on a CPU {REQUESTS_ON_CPU}. "
            f"The most that an endpoint is sent: {REQUESTS_AT_ENDPOINT}, with images "
            f"{REQUESTS_WITH_IMAGES}."
        ),
    )
    tensor_parallel_size: PositiveInt = Field(1, description="GPUs of one engine.")
    lora: Adapters = Field(
        default_factory=dict,
        json_schema_extra={"may_be_repeated": True},
        description=(
            "LoRA adapter: a folder, on the hub (OWNER/NAME) or a URI; of several, NAME=PATH,... ."
        ),
    )
    lora_column: Named | None = Field(
        None,
        description="Column with the name of each row's adapter; where it is empty, none is used.",
    )
    stall_seconds: float = Field(
        900.0,
        gt=0,
        description=(
            "End a process that has made no progress for so long; its rows are retried. A run ends "
            "whose endpoint has answered nothing for so long."
        ),
    )
    engine_args: Mapping[str, Any] = Field(
        default_factory=dict, description="Further arguments of vLLM's engine: NAME=VALUE,... ."
    )


class EngineConfig(EngineSettings):
    """The model, and how one engine replica runs it."""

    model: Named
    """Folder of the checkpoint, as Hugging Face lays it out, what `engine.models` fetches, or the
    model's name at `endpoint`."""
    model_options: Mapping[str, Mapping[str, Any]] = Field(
        default_factory=dict, exclude=True, repr=False
    )
    """Arguments of the filesystems that the model is fetched with, by protocol; never recorded."""
    dtype: Dtype = "auto"
    """`auto` runs float32 checkpoints in bfloat16, as vLLM does."""
    max_images: PositiveInt = 1
    """Most images in one request."""
    pan_and_scan: PanAndScan = False
    has_images: bool = True
    """Whether requests may have images; a run knows it from its task."""
    served_by: str = ""
    """What runs the model at `endpoint`, such as `vllm`, where that says so; a run asks it."""
    served_as: str = ""
    """What the server at `endpoint` says its model is; a run asks it."""

    def requests(self, *, on_gpu: bool) -> int:
        """`max_num_seqs`, or the default of the device and of what is asked."""
        if self.endpoint is not None:
            most = REQUESTS_WITH_IMAGES if self.has_images else REQUESTS_AT_ENDPOINT
            return self.max_num_seqs or most
        if self.max_num_seqs is not None or not on_gpu:
            return self.max_num_seqs or REQUESTS_ON_CPU
        return REQUESTS_WITH_IMAGES if self.has_images else REQUESTS_ON_GPU

    @field_validator("engine_args")
    @classmethod
    def _leaves_ours_alone(cls, value: Mapping[str, Any]) -> Mapping[str, Any]:
        taken = sorted(value.keys() & {*cls.model_fields, *OUR_ENGINE_ARGS})
        if taken:
            instead = "; set HF_TOKEN in the environment" if taken[0] == "hf_token" else ""
            raise ValueError(f"'{taken[0]}' is not to be set here{instead}")
        return value


class SliceSettings(Settings):
    """Which rows of INPUT a run takes; all of them by default. See `pipeline.sources.selection`."""

    where: str | None = Field(
        None,
        description=(
            "Only rows that match, as in SQL: lang = 'en' and width > 256; also or, not, in (...), "
            "like, is null, starts_with(column, text)."
        ),
    )
    limit: PositiveInt | None = Field(
        None, description="Only the first so many rows (of those that match), in input order."
    )
    sample: PositiveInt | None = Field(
        None,
        description=(
            "Only so many rows (of those that match), drawn at random; the same ones for the same "
            "files and sample_seed."
        ),
    )
    sample_seed: int = Field(0, ge=0, description="Random seed of sample and shuffle.")
    shuffle: bool = Field(
        False,
        description=(
            "Work on the output files in a random order, so that a run that is stopped has a "
            "mixture of INPUT. Rows stay in input order."
        ),
    )
    missing: str | None = Field(
        None,
        description=(
            "Compute only rows whose column of this name is null or empty; the others keep its "
            "value, with the outcome 'kept'."
        ),
    )


class RunSettings(SliceSettings):
    """How rows are read, spread over the cluster and written."""

    config: str | None = Field(
        None, description="Config (subset) of a dataset on the Hub; by default its default one."
    )
    split: str | None = Field(
        None, description="Split of a dataset on the Hub, or several: train+test; by default all."
    )
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
    prefix: str | None = Field(
        None, description="Put before the names of all columns that are added: gemma_, say."
    )
    output_format: OutputFormat = Field(
        "parquet",
        description=(
            "Format of the output files: parquet, jsonl, csv or webdataset (tar shards with the "
            "images, the answers as .txt and the rest as .json)."
        ),
        json_schema_extra={"values": [*OUTPUT_FORMATS]},
    )
    sidecars: bool = Field(
        False, description="Write each image's answer to a .txt file beside it, in INPUT."
    )
    overwrite_sidecars: bool = Field(
        False, description="Let sidecars replace .txt files that were there before."
    )
    max_image_bytes: PositiveInt = Field(
        100_000_000,
        description="An image file that is larger is not opened, nor a video of ten times that.",
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
        False,
        description="Work beside another run into the same OUTPUT; what one has finished, the other"
        " leaves out.",
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
    """Parquet, images, JSON lines, CSV or tar: a file, a folder or a glob; a path or a URI."""
    output: Named
    """Folder for the output files: a new one, or that of an earlier run of the same."""
    engine: EngineConfig
    block_rows: PositiveInt = 32
    """Rows that travel between the stages together."""
    fetch_seconds: float = Field(default=60.0, gt=0)
    """Most time to fetch one image behind a link or a URI, in seconds, retries included."""
    drain_seconds: float = Field(default=20.0, ge=0)
    """Seconds that a run continues after SIGTERM, to save what is in flight."""


SECRET = {"storage_options", "endpoint"}
"""Fields whose values may hold credentials, even if they should not."""


def describe_fault(error: ValidationError) -> str:
    """One line that names the first wrong field of a configuration and what is wrong with it.

    What is wrong with fields together is told as it is, without the values of all fields.
    """
    fault = error.errors()[0]
    field = ".".join(str(part) for part in fault["loc"])
    message = fault["msg"].removeprefix("Value error, ")
    if not field:
        return message
    message = message[0].lower() + message[1:]
    if SECRET & {*fault["loc"]}:
        return f"{field}: {message}"
    return f"{field}: {message} (got {reprlib.repr(fault['input'])})"
