"""Writes the report of an OUTPUT: reads what it shows, and makes one file of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jobs.report.columns import Columns, Role, columns_of
from jobs.report.histograms import Histogram, histogram, of_scores
from jobs.report.page import render
from jobs.report.payload import Counted, images_json, rows_json, weights_of
from jobs.report.pictures_of_profile import picture_of
from jobs.report.plan_file import foreseen, read_plan_file
from jobs.report.reasons import Reason, group
from jobs.report.rows import Rows, read_rows
from jobs.report.sampling import choose
from jobs.report.target import save, target_of
from jobs.report.thumbnails import NOT_WANTED, Thumbnail, thumbnails
from pipeline import Outcome, status
from pipeline.output.counts import committed_counts
from pipeline.output.parts import part_schema
from pipeline.output.pictures import Pictures
from pipeline.output.results import results_schema
from pipeline.output.status import open_output

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pipeline.output.plan import Plan
    from pipeline.output.run_record import Record
    from pipeline.output.status import Status
    from pipeline.storage.location import Location, StorageOptions

ROWS = 10_000
IMAGE_SECONDS = 120.0


@dataclass(frozen=True, kw_only=True)
class Written:
    """A report that was written.

    Attributes:
        path: Where.
        size: Bytes.
        rows: Rows in it.
        of: Rows in OUTPUT.
        images: Rows with their image.
        without_image: Rows whose image is missing, and the commonest reason.
    """

    path: str
    size: int
    rows: int
    of: int
    images: int
    without_image: tuple[int, str]


def write_report(
    output: str,
    to: str | None = None,
    *,
    rows: int = ROWS,
    image_seconds: float = IMAGE_SECONDS,
    storage_options: StorageOptions | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Written:
    """Write the report of an OUTPUT, finished or not, as one HTML file that loads nothing.

    Args:
        output: The folder of a run.
        to: The file; by default `NAME-report.html` in the current folder.
        rows: Most rows that it shows.
        image_seconds: About the most time to spend on images; 0 for no images.
        storage_options: Arguments of fsspec's filesystems, by protocol.
        say: Called with what it is doing.

    Raises:
        UserError: OUTPUT is not that of a run, or the file cannot be written.
        OSError: OUTPUT cannot be read.
    """
    where, record, plan = open_output(output, storage_options)
    target = target_of(to or f"{where.name}-report.html", "to", (where,), storage_options)
    chosen = choose(committed_counts(plan), rows)
    say(f"reading {sum(len(n) for part in chosen.values() for n in part.values()):,} rows")
    columns = columns_of(record, _names(plan, record, [*chosen]))
    read = read_rows(plan, chosen, columns)
    columns = columns.without(read.left_out)
    images = _images(record, plan, read, image_seconds, storage_options, say)
    state = status(output, storage_options)
    body = render("report", **_content(state, record, columns, read, images, where)).encode()
    save(target, body)
    return _written(target, body, read, state, images or [])


def _names(plan: Plan, record: Record, parts: Sequence[str]) -> list[str]:
    """The columns of OUTPUT, in order."""
    schema = results_schema(plan, record)
    if schema is None and parts:
        schema = part_schema(plan.output / parts[0])
    return [] if schema is None else [*dict.fromkeys(schema.names)]


def _images(
    record: Record,
    plan: Plan,
    rows: Rows,
    seconds: float,
    options: StorageOptions | None,
    say: Callable[[str], None],
) -> list[Thumbnail] | None:
    """The rows' images; None where the job has none."""
    pictures = Pictures(record, plan, options)
    if pictures.column is None or not len(rows):
        return None
    if seconds <= 0:
        return [Thumbnail(fault=NOT_WANTED)] * len(rows)

    def progress(done: int) -> None:
        if done % 1000 == 0:
            say(f"{done:,} of {len(rows):,} images")

    say(f"looking for {len(rows):,} images, for {seconds:,.0f} s at most")
    return thumbnails(pictures, plan, rows, seconds=seconds, say=progress)


def _content(
    state: Status,
    record: Record,
    columns: Columns,
    rows: Rows,
    images: list[Thumbnail] | None,
    where: Location,
) -> dict[str, Any]:
    """What the template shows."""
    counted = _counted(state, rows.column(columns.added("outcome")))
    weight_of = weights_of(counted)
    outcomes, errors = (rows.column(columns.added(name)) for name in ("outcome", "error"))
    reasons, reason_of_row = group(outcomes, errors, weight_of)
    weights = np.array([weight_of[outcome] for outcome in outcomes], np.float64)
    return {
        "state": state,
        "record": record,
        "model": "/".join(record["config"]["engine"]["model"].rstrip("/").split("/")[-2:]),
        "facts": _facts(record),
        "record_json": json.dumps(_without_profile(record), indent=2, ensure_ascii=False),
        "counted": counted,
        "shown": len(rows),
        "left_out": rows.left_out,
        "is_exact": len(rows) == state.rows_done,
        "columns": columns,
        "scores": columns.of_role(Role.SCORE),
        "is_wide": bool(columns.of_role(Role.SOURCE)) or len(columns.of_role(Role.ANSWER)) > 2,  # noqa: PLR2004
        "reasons": reasons,
        "histograms": _histograms(columns, rows, weights),
        "failed": sum(c.rows for c in counted if not c.is_good),
        "profile": picture_of(state.profile) if state.profile else None,
        "foreseen": foreseen(read_plan_file(where), state, record, _tokens(columns, rows, weights)),
        "rows_json": rows_json(rows, columns, counted, reason_of_row, images),
        "images_json": [*images_json(images)] if images else [],
    }


def _counted(state: Status, outcomes: Sequence[str]) -> list[Counted]:
    """The rows of each outcome, in the order of outcomes."""
    order = [*map(str, Outcome)]
    names = sorted({*state.outcomes, *outcomes}, key=lambda n: [*order, n].index(n))
    return [
        Counted(
            name=name,
            rows=max(state.outcomes.get(name, 0), outcomes.count(name)),
            shown=outcomes.count(name),
        )
        for name in names
    ]


def _histograms(columns: Columns, rows: Rows, weights: np.ndarray) -> list[Histogram]:
    found: list[Histogram | None] = [
        of_scores(column.label, column.name, rows.column(column.name), weights)
        for column in columns.of_role(Role.SCORE)
    ]
    for column in (*columns.of_role(Role.ANSWER), *columns.of_role(Role.SOURCE)):
        values = rows.column(column.name)
        cut = rows.cut.get(column.name, {})
        if any(isinstance(value, str) for value in values):
            lengths = [
                len(v) + cut.get(row, 0) if isinstance(v, str) else None
                for row, v in enumerate(values)
            ]
            found.append(histogram(f"Length of {column.label}", "characters", lengths, weights))
        elif any(isinstance(value, list) for value in values):
            sizes = [len(v) if isinstance(v, list) else None for v in values]
            found.append(histogram(f"Entries of {column.label}", "entries", sizes, weights))
        else:
            found.append(_of_numbers(column.label, values, weights))
    for column in columns.of_role(Role.REMARK):
        if column.label == "quality":
            values = rows.column(column.name)
            found.append(histogram(f"Quality of {column.of}", "nats a token", values, weights))
    for name, title in (
        ("prompt_tokens", "Tokens of prompts"),
        ("output_tokens", "Tokens of answers"),
    ):
        found.append(histogram(title, "tokens", rows.column(columns.added(name)), weights))
    return [one for one in found if one is not None]


def _tokens(columns: Columns, rows: Rows, weights: np.ndarray) -> tuple[float, float]:
    """Tokens of all prompts and of all answers in OUTPUT."""
    found = []
    for name in ("prompt_tokens", "output_tokens"):
        tokens = np.array([n or 0 for n in rows.column(columns.added(name))], np.float64)
        found.append(float((tokens * weights).sum()))
    return found[0], found[1]


def _of_numbers(label: str, values: Sequence[Any], weights: np.ndarray) -> Histogram | None:
    is_number = [isinstance(v, int | float) and not isinstance(v, bool) for v in values]
    if not any(is_number):
        return None
    numbers = [v if is_one else None for v, is_one in zip(values, is_number, strict=True)]
    return histogram(f"Values of {label}", "", numbers, weights)


def _facts(record: Record) -> list[tuple[str, str]]:
    """What people look for in a run's record first."""
    config, model, settings = record["config"], record["model"], record["settings"]
    facts = [
        ("Job", record["task"]),
        ("Prompt", settings.get("prompt")),
        ("Model", config["engine"]["model"]),
        ("Revision", model.get("revision")),
        ("Architecture", model.get("architecture")),
        ("Model class", record.get("model_class")),
        ("Adapters", ", ".join(model.get("adapters") or ())),
        ("INPUT", record.get("input", config["input"])),
        ("Commit of INPUT", record.get("input_commit")),
        ("Format", config.get("output_format", "parquet")),
        ("Started", record["started"]),
        ("Finished", record.get("finished")),
        ("Versions", ", ".join(f"{name} {v}" for name, v in record["versions"].items())),
    ]
    return [(name, str(value)) for name, value in facts if value]


def _without_profile(record: Record) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name != "profile"}


def _written(
    target: Location, body: bytes, rows: Rows, state: Status, images: Sequence[Thumbnail]
) -> Written:
    faults = [image.fault for image in images if not image.uri]
    return Written(
        path=str(target),
        size=len(body),
        rows=len(rows),
        of=state.rows_done,
        images=len(images) - len(faults),
        without_image=(len(faults), max({*faults}, key=faults.count, default="")),
    )


__all__ = ["Reason", "Written", "write_report"]
