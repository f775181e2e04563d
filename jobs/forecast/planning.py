"""From a job and its input to a forecast: checks, units, a pilot, arithmetic, and it is kept.

Checks are those of the run itself, so that what would stop it stops this too. OUTPUT is not begun.
"""

from __future__ import annotations

import datetime
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobs.forecast.capacity import Capacity, capacity_of, limit_of
from jobs.forecast.forecast import AT, Failures, Forecast, Tokens
from jobs.forecast.intervals import Interval
from jobs.forecast.other_load import other_load
from jobs.forecast.pilot import Pilot, run_pilot
from jobs.forecast.predictor import (
    outcomes,
    quantiles,
    share_of,
    size,
    time_of,
    tokens,
    weights,
)
from jobs.forecast.sample import Sample, draw
from jobs.forecast.stored import is_current, load, save
from jobs.forecast.units import units_left
from jobs.registry import find_job
from jobs.sdk.assembly import configure
from pipeline import UserError
from pipeline.contract.redaction import redact
from pipeline.engine.backends import backend_of
from pipeline.execution.preparation import CheckedRun, check_run
from pipeline.output.counts import totals
from pipeline.profiling.bounds import PHRASES, Bound, verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from jobs.forecast.predictor import Time
    from jobs.sdk.assembly import ConfiguredJob
    from pipeline import RunConfig, Task
    from pipeline.engine.interface import Backend
    from pipeline.sources.units import Cut

BEFORE_THE_ENGINE = {
    Bound.READ,
    Bound.PREPARE,
    Bound.FETCH,
    Bound.DECODE,
    Bound.RESIZE,
    Bound.TOKENISE,
    Bound.TRANSPORT,
}
"""Where these bound a run, a row costs what its bytes cost."""
DISTURBED = 0.1
"""With so much of a machine's CPUs used by others, a pilot does not say what a run takes."""
REASONS = 3
"""Errors that are told for each outcome."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is asked of a plan besides the job.

    Attributes:
        pilot_rows: Rows of the pilot; None for as many as it takes.
        replicas: Engines of the run; None for as many as it would have.
        price: Of a GPU for an hour; None if that does not matter.
    """

    pilot_rows: int | None = None
    replicas: int | None = None
    price: float | None = None

    def check(self) -> None:
        """Raises UserError for a value that makes no sense."""
        for name in ("pilot_rows", "replicas"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name}: should be at least 1 (got {value})")
        if self.price is not None and self.price < 0:
            raise UserError(f"price: should not be negative (got {self.price})")


def plan(
    job: str,
    input: str,  # noqa: A002  the same names as on the command line
    output: str,
    *,
    pilot_rows: int | None = None,
    replicas: int | None = None,
    price: float | None = None,
    console: Console | None = None,
    debug: bool = False,
    **options: Any,
) -> Forecast:
    """Forecast a run over files, by a pilot on some of their rows.

    Args:
        job: The name of a job.
        input: As for the job.
        output: As for the job; the forecast is kept beside it, in `OUTPUT.plan.json`.
        pilot_rows: Rows of the pilot; by default 400, or what it takes to fill an engine.
        replicas: Engines of the run; by default as many as it would have.
        price: Of a GPU for an hour, in any currency.
        console: Where progress is shown; None shows none.
        debug: Show what Ray and the workers print.
        **options: Those of the job.

    Raises:
        UserError: The job, an option, the input or the output must be fixed.
        RunError: The pilot could not be finished.
        OSError: A store cannot be read or written.
    """
    asked = Asked(pilot_rows=pilot_rows, replicas=replicas, price=price)
    configured = configure(find_job(job), options)
    return plan_job(configured, input, output, asked, console=console, debug=debug)


def plan_job(
    job: ConfiguredJob,
    source: str,
    output: str,
    asked: Asked,
    *,
    console: Console | None = None,
    debug: bool = False,
) -> Forecast:
    """Forecast a job with its options; see `plan`."""
    config, task = job.run_config(source, output), job.task()
    return plan_run(config, task, asked, console=console, debug=debug)


def kept_plan(job: ConfiguredJob, source: str, output: str) -> Forecast | None:
    """The forecast that is kept for a run, if INPUT and OUTPUT are still as it says.

    Raises like `plan`.
    """
    config, task = job.run_config(source, output), job.task()
    checked = check_run(config, task, backend_of(config.engine))
    kept = load(checked.output, checked.record)
    is_due = kept is not None and is_current(kept, units_left(checked), _there(checked))
    return kept if is_due else None


def _there(checked: CheckedRun) -> int:
    """Rows that OUTPUT has already."""
    return 0 if checked.plan is None else totals(checked.plan).rows


def plan_run(
    config: RunConfig,
    task: Task,
    asked: Asked,
    *,
    backend: Backend | None = None,
    console: Console | None = None,
    debug: bool = False,
) -> Forecast:
    """Forecast a run; see `plan`.

    Args:
        config: The run.
        task: Its task.
        asked: What is asked besides.
        backend: What renders and generates; by default what the configuration asks for.
        console: Where progress is shown; None shows none.
        debug: Show what Ray and the workers print.
    """
    asked.check()
    backend = backend or backend_of(config.engine)
    measured = _measure(config, task, asked, backend, console=console, debug=debug)
    forecast = _forecast(measured)
    save(forecast, measured.checked.output)
    return forecast


def _measure(
    config: RunConfig,
    task: Task,
    asked: Asked,
    backend: Backend,
    *,
    console: Console | None,
    debug: bool,
) -> _Measured:
    """Check the run, cut its units and do a pilot."""
    checked = check_run(config, task, backend)
    began = time.monotonic()
    cuts = units_left(checked)
    planning = time.monotonic() - began
    capacity = capacity_of(checked.config, backend)
    sample = draw(checked, cuts, asked.pilot_rows or capacity.pilot_rows)
    _say(console, checked, cuts, sample)
    with other_load() as load:
        pilot = run_pilot(
            config,
            task,
            sample,
            output=checked.output,
            engines=capacity.engines,
            planning=planning,
            backend=backend,
            console=console,
            debug=debug,
        )
    return _Measured(
        checked=checked,
        cuts=cuts,
        sample=sample,
        pilot=pilot,
        capacity=capacity,
        asked=asked,
        disturbed=load.share if capacity.shares_cpus and load.share > DISTURBED else 0.0,
        there=_there(checked),
    )


def _say(console: Console | None, checked: CheckedRun, cuts: Sequence[Cut], sample: Sample) -> None:
    if console is None:
        return
    rows = sum(cut.rows for cut in cuts)
    console.print(
        f"{checked.task.name}: planning {rows:,} rows in {len(cuts):,} unit(s); a pilot does "
        f"{len(sample.strata):,} of them",
        highlight=False,
        soft_wrap=True,
        markup=False,
        emoji=False,
    )


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """What a forecast is made of.

    Attributes:
        checked: The run.
        cuts: The units that are left of it.
        sample: Rows of these.
        pilot: What became of them.
        capacity: What both run on.
        asked: What is asked besides.
        disturbed: The share of the machine that others used meanwhile, if that matters.
        there: Rows that OUTPUT has already.
    """

    checked: CheckedRun
    cuts: Sequence[Cut]
    sample: Sample
    pilot: Pilot
    capacity: Capacity
    asked: Asked
    disturbed: float
    there: int

    @property
    def replicas(self) -> int:
        """Engines of the run."""
        return self.asked.replicas or self.capacity.placement.engines


def _forecast(measured: _Measured) -> Forecast:
    checked, pilot, population = measured.checked, measured.pilot, measured.sample.population
    each = weights(pilot.rows, population)
    computed = population.rows * population.computed
    seconds, bound = _time(measured)
    return Forecast(
        task=checked.task.name,
        input=redact(checked.config.input),
        output=redact(str(checked.output)),
        model=checked.config.engine.model,
        reads=tuple(checked.task.columns),
        rows=population.rows,
        computed=population.computed,
        units=len(measured.cuts),
        there=measured.there,
        replicas=measured.replicas,
        gpus=measured.capacity.gpus,
        time=seconds,
        hours=_hours(seconds.interval, measured),
        bound=bound,
        read=_tokens([row.prompt_tokens for row in pilot.rows], each, computed),
        written=_tokens([row.output_tokens for row in pilot.rows], each, computed),
        failed=share_of(pilot.rows, population, lambda row: row.is_failure),
        failures=_failures(measured),
        size=round(population.rows * pilot.row_bytes + len(measured.cuts) * pilot.part_bytes),
        price=measured.asked.price,
        pilot_rows=len(pilot.rows),
        pilot_seconds=round(pilot.course.seconds, 1),
        pilot_engines=pilot.course.engines,
        model_class=pilot.model_class,
        samples=pilot.samples,
        warnings=_warnings(seconds, measured),
        record=checked.record,
        made=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def _time(measured: _Measured) -> tuple[Time, str]:
    """The time, and what bounds it."""
    checked, pilot, population = measured.checked, measured.pilot, measured.sample.population
    replicas = measured.replicas
    found = verdict(pilot.profile)
    limit, name = limit_of(
        checked.config,
        checked.task,
        pilot.profile,
        measured.capacity,
        replicas=replicas,
        rows=population.rows,
    )
    seconds = time_of(
        pilot.course,
        pilot.rows,
        population,
        replicas=replicas,
        limit=limit,
        cost=size if found.afterwards in BEFORE_THE_ENGINE else tokens,
        disturbed=measured.disturbed,
    )
    if seconds.steady.rate * replicas / pilot.course.engines > limit:
        return seconds, name
    return seconds, f"{PHRASES[found.afterwards]}; {found.reason}"


def _hours(seconds: Interval, measured: _Measured) -> Interval:
    """GPU-hours, or those of machines where there are no GPUs."""
    each = measured.replicas * max(measured.capacity.gpus, 1) / 3600
    return Interval(seconds.low * each, seconds.high * each)


def _tokens(values: Sequence[int], each: Sequence[float], rows: float) -> Tokens:
    mean = sum(value * weight for value, weight in zip(values, each, strict=True))
    return Tokens(total=round(mean * rows), mean=mean, quantiles=quantiles(values, each, AT))


def _failures(measured: _Measured) -> dict[str, Failures]:
    """By outcome, with the reasons that rows of the pilot had most often."""
    pilot = measured.pilot
    return {
        name: Failures(share=share, reasons=_reasons(pilot, name))
        for name, share in outcomes(pilot.rows, measured.sample.population).items()
    }


def _reasons(pilot: Pilot, outcome: str) -> tuple[tuple[str, int], ...]:
    counts = Counter(row.reason for row in pilot.rows if row.outcome == outcome)
    return tuple((pilot.errors[reason], count) for reason, count in counts.most_common(REASONS))


def _warnings(seconds: Time, measured: _Measured) -> tuple[str, ...]:
    sample, capacity, replicas = measured.sample, measured.capacity, measured.replicas
    found = []
    if measured.disturbed:
        found.append(
            f"Others used {measured.disturbed:.0%} of this machine's CPUs during the pilot, so "
            "that it was slower than a run without them; plan again on a quiet machine."
        )
    if measured.there:
        rows = f"{measured.there:,}"
        found.append(f"OUTPUT has {rows} rows already; all figures are of what is left.")
    if seconds.steady.is_short:
        needed = capacity.pilot_rows
        more = f"; --pilot-rows {needed} would" if needed > len(sample.strata) else ""
        found.append(f"The pilot did not fill the engine, so the rate is a guess{more}.")
    if not capacity.gpus and replicas > capacity.engines:
        found.append(f"{replicas} engines on CPUs are taken to have a machine like this one each.")
    if sample.unreadable:
        more = f" (and {len(sample.unreadable) - 1} more)" if len(sample.unreadable) > 1 else ""
        found.append(f"The run will not finish: {sample.unreadable[0]}{more}.")
    return tuple(found)
