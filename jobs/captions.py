"""Captions for pictures: the prompt, the result column, and the job as a function.

(The module is not called `caption`, because `from jobs import caption` would then give the module.)
"""

from __future__ import annotations

from dataclasses import dataclass
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
        """What decides the captions."""
        return {"prompt": self.prompt, "max_tokens": self.max_tokens}

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
    console: Console | None = None,
    debug: bool = False,
) -> RunResult:
    """Caption every picture of a dataset.

    Adds the columns `caption`, `row_key`, `outcome`, `error`, `prompt_tokens` and `output_tokens`
    to the input's own; one output row for each input row, in input order.

    Args:
        input: A parquet file, a folder of parquet files, or a folder of pictures.
        output: A new folder for parquet files.
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
        console: Where progress is shown; None shows none.
        debug: Show what Ray and the workers print.

    Raises:
        UserError: Something about the input, the output, the model or a setting must be mended.
        pydantic.ValidationError: A setting is out of its range (a ValueError too).
        RunError: The run began and could not be finished.
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
    )
    task = CaptionTask(
        prompt=prompt or found.caption_prompt, image_column=image_column, max_tokens=max_tokens
    )
    return run(config, task, console=console, debug=debug)
