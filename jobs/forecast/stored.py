"""Where a forecast is kept, and how the run that follows is compared with it.

The file is beside OUTPUT, `OUTPUT.plan.json`: OUTPUT itself does not exist until a run begins. It
holds for the run that would have the same record: the same input, task, prompt, model and settings
that decide results. Its time holds only for as many engines and rows as were planned.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from jobs.forecast.beside import beside
from jobs.forecast.forecast import Forecast
from pipeline import Outcome, UserError
from pipeline.contract.errors import one_line
from pipeline.output.run_record import differences, has_same_input, read_record, slice_of
from pipeline.storage.atomic import overwrite
from pipeline.storage.location import locate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline import RunResult
    from pipeline.output.run_record import Record
    from pipeline.sources.units import Cut
    from pipeline.storage.location import Location

SUFFIX = ".plan.json"
SAME_ROWS = 0.05
"""By how much numbers of rows may differ: of those that are kept there may be only a guess."""
MINUTE, HOUR, DAY = 60, 3600, 86_400


def place_of(output: Location) -> Location:
    """The file of an OUTPUT's forecast."""
    return beside(output, SUFFIX)


def save(forecast: Forecast, output: Location) -> Location:
    """Keep a forecast beside OUTPUT. Returns where.

    Raises:
        UserError: It cannot be written there.
    """
    where = place_of(output)
    body = json.dumps(forecast.to_json(), indent=1, ensure_ascii=False) + "\n"
    try:
        overwrite(where, body.encode())
    except Exception as error:  # the stores' clients have errors of many kinds
        raise UserError(f"plan: {where} cannot be written: {one_line(error)}") from None
    return where


def load(output: Location, record: Record) -> Forecast | None:
    """The forecast that is kept for a run; None if there is none, or it was for another run.

    Args:
        output: OUTPUT.
        record: The run's.

    Raises:
        OSError: The store cannot be read.
    """
    try:
        found = Forecast.from_json(json.loads(place_of(output).read()))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError):  # it is damaged, or somebody's own
        return None
    return found if found is not None and is_of(found, record) else None


def is_of(forecast: Forecast, record: Record) -> bool:
    """Whether a forecast is of the run with this record."""
    before = forecast.record
    return has_same_input(before, record) and not differences(before, record)


def is_current(forecast: Forecast, cuts: Sequence[Cut], there: int) -> bool:
    """Whether a forecast is of about the rows that its run has to compute now.

    Where only missing values are computed, nobody knows how many those are without reading all
    rows; there the units are compared.

    Args:
        forecast: A forecast that is of the run (`is_of`).
        cuts: What the run has left.
        there: Rows that OUTPUT has.
    """
    left = sum(cut.rows for cut in cuts)
    if "missing" in slice_of(forecast.record):
        is_same = forecast.rows <= left and _is_near(len(cuts), forecast.units, forecast.units)
    else:
        is_same = _is_near(left, forecast.rows, forecast.rows)
    return is_same and _is_near(there, forecast.there, forecast.rows)


def _is_near(one: int, other: int, all_rows: int) -> bool:
    return abs(one - other) <= SAME_ROWS * all_rows


def compared(result: RunResult) -> str | None:
    """A finished run beside its forecast, in a line; None if there is nothing to compare.

    Args:
        result: What the run has done.

    Raises:
        OSError: OUTPUT or the forecast cannot be read.
    """
    output = locate(result.output, result.storage_options)
    record = read_record(output)
    forecast = None if record is None else load(output, record)
    if forecast is None or not result.new_rows or abs(_changed_rows(forecast, result)) > SAME_ROWS:
        return None
    return comparison(forecast, result)


def _changed_rows(forecast: Forecast, result: RunResult) -> float:
    """By how much the rows differ that were planned and were done, as a share."""
    kept = result.outcomes.get(Outcome.KEPT, 0)
    done = result.rows - kept - forecast.there
    return done / forecast.rows - 1 if forecast.rows else 1.0


def comparison(forecast: Forecast, result: RunResult) -> str:
    """The line of `compared`.

    Args:
        forecast: What was planned.
        result: What was done.
    """
    computed = {name: n for name, n in result.outcomes.items() if name != Outcome.KEPT}
    failed = sum(n for name, n in computed.items() if not Outcome(name).has_results)
    share = failed / (sum(computed.values()) or 1)
    between = percents(forecast.failed.interval.low, forecast.failed.interval.high)
    parts = [f"planned {between} % failed, {percent(share)} %"]
    engines = result.profile.engine.engines if result.profile else 0
    resumed = result.new_rows < result.rows - forecast.there - result.outcomes.get(Outcome.KEPT, 0)
    if engines == forecast.replicas and not resumed:
        took = f"planned {duration(forecast.time.seconds)}, took {duration(result.seconds)}"
        parts.insert(0, took)
    return "; ".join(parts)


def percent(share: float) -> str:
    """A share in percent, so that small ones do not look like none: 0.04, 1.4, 12."""
    value = 100 * share
    if value == 0 or value >= 10:  # noqa: PLR2004  two digits
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 0.1 else f"{value:.2f}"  # noqa: PLR2004


def percents(low: float, high: float) -> str:
    """An interval of shares in percent."""
    return f"{percent(low)} to {percent(high)}"


def duration(seconds: float) -> str:
    """Seconds for people: `48 s`, `12 min`, `5.2 h`, `3.4 days`."""
    if seconds < 2 * MINUTE:
        return f"{seconds:.0f} s"
    if seconds < 2 * HOUR:
        minutes = seconds / MINUTE
        return f"{minutes:.1f} min" if minutes < 10 else f"{minutes:.0f} min"  # noqa: PLR2004
    if seconds < 2 * DAY:
        return f"{seconds / HOUR:.1f} h"
    return f"{seconds / DAY:.1f} days"
