"""Runs the real job on a pilot's rows, and says what is measured of them.

OUTPUT is not touched: the pilot writes beside it, in the same store, to a folder that goes when the
pilot ends, whatever it ends with. What would write elsewhere (sidecars) or end it early (an error
rate) is turned off. Everything else is as in the run itself.
"""

from __future__ import annotations

import contextlib
import itertools
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.forecast.beside import beside
from jobs.forecast.course import Course, Piece
from jobs.forecast.predictor import SampledRow
from pipeline import Outcome, run
from pipeline.contract.reason import reason_of
from pipeline.output.parts import part_files
from pipeline.profiling.collector import Collector
from pipeline.sources.readable import readable_rows
from pipeline.storage.atomic import remove_folder
from pipeline.storage.location import Location

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.console import Console

    from jobs.forecast.sample import Sample
    from pipeline import RunConfig, RunResult, Task
    from pipeline.engine.interface import Backend
    from pipeline.profiling.measures import Measures
    from pipeline.profiling.profile import Profile

SHOWN = 10
"""Sample outputs."""
SHOWN_FAILED = 3
"""Of these at most, rows that failed."""
WITHOUT: Mapping[str, Any] = {
    "where": None,
    "limit": None,
    "sample": None,
    "shuffle": False,
    "sidecars": False,
    "overwrite_sidecars": False,
    "new_version": False,
    "join": False,
    "max_error_rate": 1.0,
}
"""What a pilot does not do; which rows it takes is decided."""


@dataclass(frozen=True, kw_only=True)
class Pilot:
    """What a pilot says.

    Attributes:
        course: Its time.
        rows: What became of its rows.
        errors: An error for each reason of a failure, as it was told.
        samples: Some of its rows with all columns.
        profile: Where its time went.
        row_bytes: Bytes of OUTPUT for a row.
        part_bytes: Bytes of each file of OUTPUT besides.
        model_class: What the engine loaded.
    """

    course: Course
    rows: tuple[SampledRow, ...]
    errors: Mapping[str, str]
    samples: Sequence[Mapping[str, Any]]
    profile: Profile
    row_bytes: float
    part_bytes: float
    model_class: str | None


def run_pilot(
    config: RunConfig,
    task: Task,
    sample: Sample,
    *,
    output: Location,
    engines: int,
    planning: float = 0.0,
    backend: Backend | None = None,
    console: Console | None = None,
    debug: bool = False,
) -> Pilot:
    """Run the pilot.

    Args:
        config: The run that is forecast.
        task: Its task.
        sample: The rows.
        output: Its OUTPUT.
        engines: How many engines the pilot has.
        planning: Seconds that the run will take to cut INPUT into units, which a pilot does not.
        backend: What renders and generates; by default what the configuration asks for.
        console: Where progress is shown; None shows none.
        debug: Show what Ray and the workers print.

    Raises:
        UserError: The configuration or the input must be fixed.
        RunError: The pilot could not be finished.
        OSError: A store cannot be read or written.
    """
    recorder = Recorder()
    with _beside(output) as folder:
        changed = {**WITHOUT, "output": str(folder), "engine_replicas": engines}
        done = run(
            config.model_copy(update=changed),
            task,
            backend=backend,
            console=console,
            debug=debug,
            chosen=sample.chosen,
            collector=recorder,
        )
        assert done.profile is not None, "a pilot computes rows"
        course = course_of(done.profile, recorder.measured, done.seconds, planning)
        return _measured(done, course, folder, sample, config.prefix or "")


@contextlib.contextmanager
def _beside(output: Location) -> Iterator[Location]:
    """A folder that goes at the end; if its store refuses that, it stays, as the plan matters."""
    folder = beside(output, f".pilot-{uuid.uuid4().hex[:8]}")
    try:
        yield folder
    finally:
        with contextlib.suppress(Exception):  # nor may it hide what the pilot ended with
            remove_folder(folder)


def _measured(
    done: RunResult, course: Course, folder: Location, sample: Sample, prefix: str
) -> Pilot:
    assert done.profile is not None, "a pilot computes rows"
    names = ("outcome", "error", "prompt_tokens", "output_tokens")
    table = done.table([f"{prefix}{name}" for name in names]).rename_columns([*names])
    rows, errors = _rows(table, sample)
    row_bytes, part_bytes = _bytes(folder, len(rows))
    return Pilot(
        course=course,
        rows=rows,
        errors=errors,
        samples=_samples(done, rows),
        profile=done.profile,
        row_bytes=row_bytes,
        part_bytes=part_bytes,
        model_class=done.model_class,
    )


class Recorder(Collector):
    """Keeps all that is measured, exactly: a run's profile has points of seconds, in the end."""

    def __init__(self) -> None:
        super().__init__()
        self.measured: list[Measures] = []

    def add(self, measures: Measures) -> None:
        """See `Collector.add`."""
        self.measured.append(measures)
        super().add(measures)


def course_of(
    profile: Profile, measured: Sequence[Measures], seconds: float, planning: float = 0.0
) -> Course:
    """The course of a run.

    Args:
        profile: The run's.
        measured: What it is made of.
        seconds: What all of it took.
        planning: Seconds that its planning would have taken; it is part of the start.
    """
    moments = profile.moments
    later = max(0.0, planning - (moments.get("planned", 0.0) - moments.get("checked", 0.0)))
    began = profile.began - later
    spans = (span for some in measured for span in some.spans if span.stage == "journal")
    ends = sorted((span.ended - began, span.rows) for span in spans if span.rows)
    done = itertools.accumulate(rows for _, rows in ends)
    return Course(
        seconds=seconds + later,
        start=profile.flowing + later,
        finished=tuple(zip((at for at, _ in ends), done, strict=True)),
        slots=profile.engine.slots * profile.engine.engines,
        engines=profile.engine.engines,
        pieces=_pieces(measured, began) if profile.engine.steps else (),
    )


def _pieces(measured: Sequence[Measures], began: float) -> tuple[Piece, ...]:
    """What the engines did."""
    slices = [piece for some in measured for piece in some.slices]
    return tuple(
        Piece(one.ended - began, length, one.in_flight / length, one.steps)
        for one in sorted(slices, key=lambda one: one.ended)
        if (length := one.ended - one.began) > 0
    )


def _rows(table: pa.Table, sample: Sample) -> tuple[tuple[SampledRow, ...], dict[str, str]]:
    """The rows, and an error for each reason."""
    drawn = zip(sample.strata, sample.copies, sample.sizes, strict=True)
    rows: list[SampledRow] = []
    errors: dict[str, str] = {}
    for values, (stratum, copies, size) in zip(table.to_pylist(), drawn, strict=True):
        is_failure = not Outcome(values["outcome"]).has_results
        reason = reason_of(values["outcome"], values["error"]) if is_failure else ""
        if is_failure:
            errors.setdefault(reason, values["error"] or "")
        rows.append(
            SampledRow(
                stratum=stratum,
                copies=copies,
                size=size,
                prompt_tokens=values["prompt_tokens"] or 0,
                output_tokens=values["output_tokens"] or 0,
                outcome=values["outcome"],
                reason=reason,
                is_failure=is_failure,
            )
        )
    return tuple(rows), errors


def _samples(done: RunResult, rows: Sequence[SampledRow]) -> list[Mapping[str, Any]]:
    """Some rows evenly over all of them, a few of those that failed among them, without bytes."""
    failed = [at for at, row in enumerate(rows) if row.is_failure]
    good = [at for at, row in enumerate(rows) if not row.is_failure]
    some = _evenly(failed, min(SHOWN_FAILED, max(SHOWN - len(good), SHOWN_FAILED)))
    places = sorted([*some, *_evenly(good, SHOWN - len(some))])
    data = done.dataset()
    names = [field.name for field in data.schema if not _holds_bytes(field.type)]
    return [*readable_rows(data.take(pa.array(places), columns=names))]


def _evenly(places: Sequence[int], count: int) -> list[int]:
    count = min(count, len(places))
    return [places[(2 * at + 1) * len(places) // (2 * count)] for at in range(count)]


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return True
    return any(_holds_bytes(kind.field(at).type) for at in range(kind.num_fields))


def _bytes(folder: Location, rows: int) -> tuple[float, float]:
    """Bytes of OUTPUT for each row, and of each file for what describes it."""
    paths = [Location(folder.fs, path) for path in part_files(folder)]
    sizes = sum(path.info().size for path in paths)
    footers = sum(_footer(path) for path in paths)
    return (sizes - footers) / max(rows, 1), footers / max(len(paths), 1)


def _footer(part: Location) -> int:
    """Bytes of a part that describe it: what parquet has at its end."""
    if not part.path.endswith(".parquet"):
        return 0
    with part.open() as file, pq.ParquetFile(file) as parquet:
        return int(parquet.metadata.serialized_size)
