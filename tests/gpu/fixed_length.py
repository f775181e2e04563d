"""The product's jobs with answers of one length, for models whose weights are dummies.

Those end their answers anywhere, or repeat a token for ever. A row's way is the same but for its
end: rows are prepared by the product's own tasks, and what the model says is kept as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
from pydantic import PositiveInt

from jobs import captioning, translation
from jobs.captioning.job import CaptionOptions
from jobs.options.job import Job
from jobs.options.model import Model
from jobs.translation.job import TranslateOptions
from pipeline import ColumnKind, Generation, Prepared, Result, Task
from pipeline.contract.task import Measured, Row, TextMeter


class FixedCaptionOptions(CaptionOptions):
    """Those of `caption`, and the length."""

    answer_tokens: PositiveInt = 64


class FixedTranslateOptions(TranslateOptions):
    """Those of `translate`, and the length."""

    answer_tokens: PositiveInt = 200


@dataclass(frozen=True, kw_only=True)
class FixedLength:
    """Another task, every answer of which has ``tokens`` tokens if nothing ends it."""

    inner: Task
    tokens: int

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def columns(self) -> Mapping[str, ColumnKind]:
        return self.inner.columns

    @property
    def result_schema(self) -> pa.Schema:
        return pa.schema([("answer", pa.string())])

    @property
    def settings(self) -> Mapping[str, object]:
        return {**self.inner.settings, "answer_tokens": self.tokens}

    def measured(self, meter: TextMeter) -> FixedLength:
        inner = self.inner.measured(meter) if isinstance(self.inner, Measured) else self.inner
        return replace(self, inner=inner)

    def prepare(self, row: Row) -> Prepared:
        def fixed(request: Any) -> Any:
            changes = {"max_tokens": self.tokens, "ends_loops": False, "stop": ()}
            return replace(request, sampling=replace(request.sampling, **changes))

        return Prepared(tuple(map(fixed, self.inner.prepare(row).requests)))

    def result(self, state: object, generations: Sequence[Generation]) -> Result:
        return Result({"answer": generations[0].text})


def _caption(options: FixedCaptionOptions, model: Model) -> FixedLength:
    return FixedLength(inner=captioning.JOB.build(options, model), tokens=options.answer_tokens)


def _translate(options: FixedTranslateOptions, model: Model) -> FixedLength:
    return FixedLength(inner=translation.JOB.build(options, model), tokens=options.answer_tokens)


CAPTION = Job(
    name="caption",
    help="Captions of one length.",
    options=FixedCaptionOptions,
    build=_caption,
    restore=FixedLength,
)
TRANSLATE = Job(
    name="translate",
    help="Translations of one length.",
    options=FixedTranslateOptions,
    build=_translate,
    restore=FixedLength,
)
