"""Captions for pictures: the prompt, the result column, and the job as a function.

(The module is not called `caption`, because `from jobs import caption` would then give the module.)
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from jobs.models import find_model
from pipeline import (
    ColumnKind,
    EngineConfig,
    Generation,
    ImageRef,
    Outcome,
    Prepared,
    Request,
    Result,
    RunConfig,
    RunResult,
    Sampling,
    UserError,
    run,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from pipeline.config import Dtype
    from pipeline.storage import StorageOptions
    from pipeline.task import Row

MAX_TOKENS = 128
"""Default length limit of a caption."""


@dataclass(frozen=True, kw_only=True)
class CaptionTask:
    """One caption for one picture.

    Attributes:
        prompt: What is asked about the picture.
        image_column: Where the picture is.
        max_tokens: Longest caption; a longer one is cut and its outcome is `truncated`.
    """

    prompt: str
    image_column: str = "image"
    max_tokens: int = MAX_TOKENS

    name = "caption"
    result_schema = pa.schema([pa.field("caption", pa.string())])

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise UserError(f"max_tokens: should be at least 1 (got {self.max_tokens})")

    @property
    def columns(self) -> Mapping[str, ColumnKind]:
        """The picture's."""
        return {self.image_column: ColumnKind.IMAGE}

    @property
    def settings(self) -> Mapping[str, object]:
        """What decides the captions: the arguments this task was made with."""
        return asdict(self)

    def prepare(self, row: Row) -> Prepared:
        """One request: the picture, then the prompt."""
        image = ImageRef(row[self.image_column])
        request = Request(self.prompt, Sampling(self.max_tokens), images=(image,))
        return Prepared((request,))

    def result(self, state: object, generations: Sequence[Generation]) -> Result:
        """The answer without white space around it."""
        (answer,) = generations
        cut = answer.finish_reason == "length"
        outcome = Outcome.TRUNCATED if cut else Outcome.OK
        return Result({"caption": answer.text.strip()}, outcome)


def caption(
    input: str,  # noqa: A002  the same names as on the command line
    output: str,
    *,
    model: str,
    image_column: str = "image",
    prompt: str | None = None,
    max_tokens: int = MAX_TOKENS,
    dtype: Dtype | None = None,
    max_num_seqs: int = 64,
    tensor_parallel_size: int = 1,
    engine_replicas: int | None = None,
    render_workers: int | None = None,
    keep_images: bool = False,
    dedup: bool = True,
    max_error_rate: float | None = None,
    new_version: bool = False,
    single_driver: bool = False,
    allow_private_addresses: bool = False,
    storage_options: StorageOptions | None = None,
    console: Console | None = None,
    debug: bool = False,
) -> RunResult:
    """Caption every picture of a dataset, or go on with a run of the same that was stopped.

    Adds the columns `caption`, `row_key`, `outcome`, `error`, `prompt_tokens` and `output_tokens`
    to the input's own; one output row for each input row, in input order. Over an input that has
    grown since, only new and changed files are computed.

    Args:
        input: Parquet, pictures, JSON lines or WebDataset shards: a file, a folder or a glob, as a
            path, `s3://`, `gs://`, `hf://` or (a single file) `https://`.
        output: A folder for parquet files: a path, `s3://` or `gs://`.
        model: A Gemma 3 checkpoint's folder, or `demo` for the bundled model.
        image_column: Column with the pictures: binary, `struct<bytes, path>`, or paths of files.
        prompt: What to ask; the default asks for one sentence.
        max_tokens: Longest caption, in tokens.
        dtype: `auto`, `float32` or `bfloat16`; by default what suits the model.
        max_num_seqs: Rows one engine works on at once.
        tensor_parallel_size: GPUs of one engine.
        engine_replicas: Engines; by default as many as the cluster's GPUs hold.
        render_workers: Processes that decode pictures; by default what the CPUs allow.
        keep_images: Pass the pictures through to the output.
        dedup: Compute identical rows (of about two thousand that lie together) once.
        max_error_rate: Stop once more than this share of the finished rows has no caption.
        new_version: Where `output` holds captions of another prompt, model or setting, write to
            `<output>-v2` (`-v3`, ...).
        single_driver: Only one run writes to `output` at a time: its store may ignore conditions.
        allow_private_addresses: Follow links to pictures into private networks too.
        storage_options: Arguments of fsspec's filesystems, by protocol; by default endpoint and
            credentials come from the stores' own environment variables. Never recorded.
        console: Where progress is shown; None shows none.
        debug: Show what Ray and the workers print.

    Raises:
        UserError: Something about the input, the output, the model or a setting must be mended.
        pydantic.ValidationError: A setting is out of its range (a ValueError too).
        ErrorRateError: More rows failed than `max_error_rate` allows.
        RunError: The run could not be finished; the same call goes on with it.
    """
    found = find_model(model)
    engine = EngineConfig(
        model=found.path,
        dtype=dtype or found.dtype,
        max_num_seqs=max_num_seqs,
        tensor_parallel_size=tensor_parallel_size,
    )
    config = RunConfig(
        input=input,
        output=output,
        engine=engine,
        engine_replicas=engine_replicas,
        render_workers=render_workers,
        keep_images=keep_images,
        dedup=dedup,
        max_error_rate=max_error_rate,
        new_version=new_version,
        single_driver=single_driver,
        allow_private_addresses=allow_private_addresses,
        storage_options=storage_options or {},
    )
    task = CaptionTask(
        prompt=prompt or found.caption_prompt, image_column=image_column, max_tokens=max_tokens
    )
    return run(config, task, console=console, debug=debug)
