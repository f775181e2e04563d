"""OUTPUTs without a model: plan, record and parts as a run writes them, of given answers."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from jobs.captioning.task import CaptionTask
from jobs.moderation.policies import Policy
from jobs.moderation.task import Judge, ModerationTask
from jobs.translation.task import TranslationTask
from pipeline import EngineConfig, RunConfig
from pipeline.contract.task import Task
from pipeline.output.commit import NewParts
from pipeline.output.extension import extended
from pipeline.output.formats import FORMATS
from pipeline.output.journal import Journal, entry_schema
from pipeline.output.run_record import claim, describe_run, finish
from pipeline.sources import list_input, open_source
from pipeline.sources.units import Work
from pipeline.storage.location import locate

Answer = Callable[[int], Mapping[str, Any]]
"""By a row's number in INPUT: its result columns, and what differs from a good row."""
MODEL = SimpleNamespace(
    profile=SimpleNamespace(architecture="Gemma3ForConditionalGeneration"),
    identity=SimpleNamespace(now="sha256:abc", before="old", revision=None),
)


def make_output(
    output: str,
    task: Task,
    source: str,
    answer: Answer,
    *,
    unit_rows: int = 100,
    units: Callable[[int], bool] = lambda _: True,
    **settings: Any,
) -> str:
    """Write an OUTPUT; returns it.

    Args:
        output: A new folder.
        task: Whose run it is.
        source: INPUT.
        answer: See `Answer`.
        unit_rows: Rows of a part.
        units: Which units are committed, by index.
        settings: Of the run.
    """
    config = RunConfig(
        input=source,
        output=output,
        engine=EngineConfig(model="models/gemma-3-4b-it"),
        unit_rows=unit_rows,
        **settings,
    )
    where, listing = locate(output), list_input(source)
    reads = open_source(listing, unit_rows=unit_rows, keep_images=config.keep_images)
    record = describe_run(config, task, cast("Any", MODEL), "fake")
    claim(where, record)
    suffix = FORMATS[config.output_format].suffix
    plan = extended(None, where, listing, reads, suffix=suffix)
    parts = NewParts(
        journal=Journal(where, task.result_schema),
        source=reads,
        run=record,
        prefix=config.prefix or "",
    )
    row = 0
    for index in range(len(plan)):
        unit = plan.unit(index)
        if units(index):
            rows = [_entry(at, answer(row + at)) for at in range(unit.rows)]
            schema = entry_schema(task.result_schema)
            parts.journal.append(unit.id, pa.Table.from_pylist(rows, schema=schema))
            parts.commit(Work(unit))
        row += unit.rows
    if all(map(units, range(len(plan)))):
        finish(where, record, {"rows": row, "seconds": 12.5, "rows_per_second": 80.0})
    return output


def _entry(position: int, given: Mapping[str, Any]) -> dict[str, Any]:
    good = {"outcome": "ok", "prompt_tokens": 280, "output_tokens": 12}
    return {"position": position, **good, **given}


def drawing(number: int, side: int = 96) -> bytes:
    """A small JPEG whose colour tells its number."""
    colour = (number * 53 % 256, number * 97 % 256, number * 31 % 256)
    file = io.BytesIO()
    Image.new("RGB", (side, side * 3 // 4), colour).save(file, "JPEG")
    return file.getvalue()


def image_rows(folder: Path, rows: int, per_file: int = 5000) -> str:
    """A folder of parquet files with images; returns it."""
    folder.mkdir()
    for start in range(0, rows, per_file):
        numbers = range(start, min(start + per_file, rows))
        table = pa.table(
            {
                "name": [f"drawing-{number:05d}.jpg" for number in numbers],
                "image": [drawing(number) for number in numbers],
            }
        )
        pq.write_table(table, folder / f"{start:08d}.parquet", row_group_size=500)
    return str(folder)


def text_rows(folder: Path, texts: list[str]) -> str:
    """A parquet file of texts; returns its folder."""
    folder.mkdir()
    table = pa.table({"id": [f"t-{number}" for number in range(len(texts))], "text": texts})
    pq.write_table(table, folder / "texts.parquet")
    return str(folder)


def caption_task(**fields: Any) -> Task:
    return CaptionTask(**{"prompt": "Describe this image in one sentence.", **fields})


def translation_task(*targets: str) -> Task:
    return TranslationTask(targets=targets, text_columns=("text",), source="en")


def moderation_task() -> Task:
    policies = (
        Policy(name="violence", text="No Violence: none of it."),
        Policy(name="weapons", text="No Weapons: none of them.", threshold=0.3),
    )
    prompt = "Does it violate {policy}?"
    return ModerationTask(
        policies=policies, judge=Judge.GEMMA3, prompt=prompt, image_column="image"
    )


def scores(number: int) -> dict[str, Any]:
    """A row of a moderation."""
    violence, weapons = number * 37 % 101 / 100, number * 61 % 101 / 100
    labels = [n for n, p, t in (("violence", violence, 0.5), ("weapons", weapons, 0.3)) if p >= t]
    return {
        "p_violence": violence,
        "p_weapons": weapons,
        "flagged": bool(labels),
        "labels": labels,
    }
