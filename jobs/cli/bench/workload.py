"""Decides the rows of a benchmark and the job over them, so that it needs nobody's data.

Images are the bundled drawings, texts the sentences that describe them. To any but the bundled
model they are only load. Rows are not computed once for several that are equal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.demo.dataset import held_out_scenes, write_dataset
from jobs.demo.phrases import caption
from jobs.registry import find_job, load_job
from jobs.sdk.assembly import ConfiguredJob, configure
from pipeline.engine.renderer import GemmaRenderer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pipeline.contract.config import EngineConfig

DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "translate": {"to": "de", "source": "en", "check_language": False}
}
"""What a job needs to be told, or would do beside its work, by its name."""
ROW_GROUP = 64


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A job over rows in a folder, as JSON can say it.

    Attributes:
        job: The name of a job, or the import path of one's own, `package.module:Name`.
        options: Its options by name.
        input: The folder.
    """

    job: str
    options: Mapping[str, Any]
    input: str

    def configured(self) -> ConfiguredJob:
        """The job with its options. Raises UserError, as where it is run."""
        found = load_job(self.job) if ":" in self.job else find_job(self.job)
        return configure(found, self.options)

    def to_json(self) -> str:
        """As text, for another process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Workload:
        """The inverse of `to_json`."""
        return cls(**json.loads(text))


def synthetic(
    job: str, options: Mapping[str, Any], folder: Path, *, rows: int, input_tokens: int | None
) -> Workload:
    """Write rows for a job.

    Args:
        job: As in `Workload`.
        options: Options that the user sets; the others are `DEFAULTS`.
        folder: Where the rows are written; it must not exist.
        rows: How many.
        input_tokens: About how many tokens a text has; by default it is one sentence. Images have
            as many as the model gives them.

    Raises:
        UserError: The job or the model does not exist, or an option is wrong.
    """
    given = {"dedup": False, **DEFAULTS.get(job, {}), **options}
    workload = Workload(job=job, options=given, input=str(folder))
    configured = workload.configured()
    if "text" in configured.task().columns:
        _write_texts(folder, rows, configured.engine() if input_tokens else None, input_tokens or 0)
    else:
        write_dataset(folder, rows, row_group_size=ROW_GROUP)
    return workload


def _write_texts(folder: Path, rows: int, model: EngineConfig | None, tokens: int) -> None:
    folder.mkdir(parents=True)
    sentences = map(caption, held_out_scenes(seed=0))
    count = None if model is None else GemmaRenderer(model).count
    texts = [
        next(sentences) if count is None else _text(sentences, count, tokens) for _ in range(rows)
    ]
    pq.write_table(pa.table({"text": texts}), folder / "texts.parquet", row_group_size=ROW_GROUP)


def _text(sentences: Iterator[str], count: Callable[[str], int], tokens: int) -> str:
    """As many sentences as come nearest below so many tokens, but at least one."""
    text = next(sentences)
    while count(longer := f"{text} {next(sentences)}") <= tokens:
        text = longer
    return text
