"""A job that another package brings: which of some labels fits an image, one request a row."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa

from pipeline import ColumnKind, Generation, ImageRef, Prepared, Request, Result, Sampling


@dataclass(frozen=True, kw_only=True)
class Classify:
    """Choose the label that fits each image.

    Attributes:
        labels: The labels to choose from:
            red,green.
        image_column: Column with the images.
    """

    labels: tuple[str, ...]
    image_column: str = "image"

    name = "classify"
    result_schema = pa.schema([("label", pa.string())])

    @property
    def columns(self) -> Mapping[str, ColumnKind]:
        return {self.image_column: ColumnKind.IMAGE}

    @property
    def settings(self) -> Mapping[str, object]:
        return asdict(self)

    def prepare(self, row: Mapping[str, object]) -> Prepared:
        prompt = f"Which of these fits the image: {', '.join(self.labels)}?"
        one_of = json.dumps({"enum": [*self.labels]})
        sampling = Sampling(max_tokens=64, json_schema=one_of)
        image = ImageRef(row[self.image_column])
        return Prepared((Request(prompt, sampling, images=(image,)),))

    def result(self, state: object, generations: Sequence[Generation]) -> Result:
        return Result({"label": json.loads(generations[0].text)})
