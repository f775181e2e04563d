"""The options of each job as keyword arguments, for editors and type checkers.

The names and types are those of `options`; a test holds that. What each means is said there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.contract.config import Dtype


class JobSettings(TypedDict, total=False):
    """See `options.JobOptions`. `model` is needed unless an `Engine` is given."""

    model: str
    dtype: Dtype | None
    max_model_len: int
    max_num_seqs: int | None
    tensor_parallel_size: int
    stall_seconds: float
    engine_args: Mapping[str, Any] | str
    engine_replicas: int | None
    render_workers: int | None
    unit_rows: int
    keep_images: bool
    max_image_bytes: int
    max_image_pixels: int
    dedup: bool
    max_error_rate: float | None
    new_version: bool
    single_driver: bool
    allow_private_addresses: bool
    storage_options: Mapping[str, Any] | str


class CaptionSettings(JobSettings, total=False):
    """See `options.CaptionOptions`."""

    image_column: str
    style: str | None
    prompt: str | None
    json_schema: str | Mapping[str, Any] | None
    system: str | None
    language: str | None
    max_images: int
    pan_and_scan: bool
    max_tokens: int | None
    temperature: float
    top_p: float
    top_k: int
    seed: int
    n: int


class TranslateSettings(JobSettings, total=False):
    """See `options.TranslateOptions`."""

    to: Sequence[str] | str
    text_columns: Sequence[str] | str
    image_column: str | None
    source: str
    source_column: str | None
    glossary: str | None
    chunk_tokens: int
    context_tokens: int
    max_tokens: int | None
    check_language: bool
    pan_and_scan: bool


class ModerateSettings(JobSettings, total=False):
    """See `options.ModerateOptions`."""

    image_column: str | None
    text_column: str | None
    policies: str | None
    thresholds: Mapping[str, float] | str
