"""What a user may set for a job: the one list behind the command line, job files and the SDK.

One model for each job; each field has its name, type, limits, default and a line of help here and
nowhere else. How options become a task and a run is `assembly`'s.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt, field_validator

from pipeline.contract.config import Dtype

Job = Literal["caption", "translate", "moderate"]


def _listed(value: object) -> object:
    """`de,fr` for a list."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list | tuple):
        raise ValueError("should be names with commas between them, or a list of names")
    return value


def _mapped(value: object) -> object:
    """`a=1,b=2`, or JSON, for a mapping."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("{"):
        return json.loads(value)
    pairs = [part.partition("=") for part in value.split(",")]
    if not all(equals for _, equals, _ in pairs):
        raise ValueError("should be NAME=VALUE,... or a JSON object")
    return {name.strip(): _scalar(text.strip()) for name, _, text in pairs}


def _scalar(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


Names = Annotated[tuple[str, ...], BeforeValidator(_listed)]
"""A list of names; as text, with commas between them."""
Settings = Annotated[Mapping[str, Any], BeforeValidator(_mapped)]
"""A mapping; as text, `NAME=VALUE,...` or a JSON object."""
Number = Annotated[float, Field(strict=True)]
"""No `yes` or `no`, which would be 1 or 0."""
Numbers = Annotated[Mapping[str, Number], BeforeValidator(_mapped)]
"""A mapping to numbers; as text, `NAME=NUMBER,...`."""


class JobOptions(BaseModel):
    """What every job takes."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    @field_validator("*")
    @classmethod
    def _is_something(cls, value: object) -> object:
        """An empty text is a variable that was not set, not a wish."""
        if value == "":
            raise ValueError("is empty; give it a value, or leave it out")
        return value

    model: str = Field(
        min_length=1, description="Folder of a Gemma 3 checkpoint, or 'demo' for the bundled one."
    )
    dtype: Dtype | None = Field(None, description="By default what suits the model.")
    max_model_len: PositiveInt = Field(
        8192, description="Longest prompt with its answer, in tokens; the model's limit, if lower."
    )
    max_num_seqs: PositiveInt | None = Field(
        None, description="Requests one engine works on at once; by default 256, on a CPU 64."
    )
    tensor_parallel_size: PositiveInt = Field(1, description="GPUs of one engine.")
    stall_seconds: float = Field(
        900.0, gt=0, description="End a process that has stood still for so long."
    )
    engine_args: Settings = Field(
        default_factory=dict, description="Further arguments of vLLM's engine: NAME=VALUE,... ."
    )
    engine_replicas: PositiveInt | None = Field(
        None, description="Engines; by default as many as the cluster's GPUs hold."
    )
    render_workers: PositiveInt | None = Field(
        None, description="Processes that decode images; by default what the CPUs allow."
    )
    unit_rows: PositiveInt = Field(2000, description="Rows of an output file.")
    keep_images: bool = Field(False, description="Pass the images through to the output.")
    max_image_bytes: PositiveInt = Field(
        100_000_000, description="A larger file of an image is not opened."
    )
    max_image_pixels: PositiveInt = Field(
        100_000_000, description="An image of more pixels is not decoded."
    )
    dedup: bool = Field(True, description="Compute identical rows that lie together once.")
    max_error_rate: float | None = Field(
        None, ge=0, le=1, description="Stop once more than this share of the rows has failed."
    )
    new_version: bool = Field(
        False, description="Write to OUTPUT-v2 where OUTPUT has another prompt or model."
    )
    single_driver: bool = Field(False, description="Trust a store that ignores conditional writes.")
    allow_private_addresses: bool = Field(
        False, description="Follow links to images into private networks too."
    )
    storage_options: Settings = Field(
        default_factory=dict,
        repr=False,
        description="Arguments of fsspec's filesystems by protocol, as JSON. Never recorded.",
    )


class CaptionOptions(JobOptions):
    """What `caption` takes."""

    image_column: str = Field("image", description="Column with the images, or lists of them.")
    style: str | None = Field(None, description="alt, sentence (the default), dense, tags or ocr.")
    prompt: str | None = Field(
        None, description="What to ask instead; columns in braces: 'Describe {title}'."
    )
    json_schema: str | Mapping[str, Any] | None = Field(
        None, description="JSON schema, or a file with one, that captions keep to."
    )
    system: str | None = Field(None, description="Text before the prompt.")
    language: str | None = Field(None, description="Code of the captions' language: fr, pt-BR.")
    max_images: PositiveInt = Field(8, description="Most images of a row.")
    pan_and_scan: bool = Field(False, description="Show oblong images in crops as well.")
    max_tokens: PositiveInt | None = Field(
        None, description="Longest caption, in tokens; by default what suits its style."
    )
    temperature: float = Field(0.0, ge=0, le=2, description="0 takes the likeliest words.")
    top_p: float = Field(1.0, gt=0, le=1, description="Draw from the likeliest words of this sum.")
    top_k: int = Field(0, ge=0, description="Draw from so many words; 0 from all.")
    seed: int = Field(0, description="Another one draws other captions.")
    n: PositiveInt = Field(1, le=64, description="Captions to draw for each row.")


class TranslateOptions(JobOptions):
    """What `translate` takes."""

    to: Names = Field(description="Codes of the languages to translate to: de,fr.")
    text_columns: Names = Field(("text",), description="Columns with the texts: title,body.")
    image_column: str | None = Field(
        None, description="Column with images whose text is translated, instead of texts."
    )
    source: str = Field("auto", description="Code of the texts' language; auto detects it.")
    source_column: str | None = Field(
        None, description="Column that holds the code of each row's language."
    )
    glossary: str | None = Field(None, description="CSV file of terms; its header has the codes.")
    chunk_tokens: PositiveInt = Field(512, description="Longest piece translated at once.")
    context_tokens: int = Field(64, ge=0, description="Text shown before a piece, in tokens.")
    max_tokens: PositiveInt | None = Field(
        None, description="Longest answer for a piece, in tokens; by default thrice the piece."
    )
    check_language: bool = Field(True, description="Check that answers are in their language.")
    pan_and_scan: bool = Field(False, description="Show oblong images in crops as well.")

    @field_validator("to")
    @classmethod
    def _has_one(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("has no language; name at least one: de,fr")
        return value


class ModerateOptions(JobOptions):
    """What `moderate` takes."""

    image_column: str | None = Field(
        None, description="Column with the images; by default 'image'."
    )
    text_column: str | None = Field(None, description="Column with texts, instead of images.")
    policies: str | None = Field(
        None, description="YAML or JSON file of policies; by default ShieldGemma 2's three."
    )
    thresholds: Numbers = Field(
        default_factory=dict, description="Flag from these probabilities on: violence=0.3,... ."
    )


OPTIONS: Mapping[Job, type[JobOptions]] = {
    "caption": CaptionOptions,
    "translate": TranslateOptions,
    "moderate": ModerateOptions,
}
"""The jobs by name."""
