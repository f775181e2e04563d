"""Shows a forecast on one screen of 80 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Column, Table
from rich.text import Text

from jobs.cli.tables import plain
from jobs.forecast.stored import duration, percent, percents
from pipeline.contract.record import ADDED
from pipeline.engine.model_files import short_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from rich.console import RenderableType

    from jobs.forecast.forecast import Forecast, Tokens
    from jobs.forecast.intervals import Interval

WIDTH = 80
MOST_REASONS = 2
MOST_RESULTS = 4
"""Result columns of a sample that are shown, unless the first is text."""
STEPS = ("", "k", "M", "G", "T", "P")
THOUSAND = 1000


def plan_screen(forecast: Forecast) -> RenderableType:
    """A forecast as a table of figures, with some rows of the pilot below."""
    columns = (Column(style="bold", no_wrap=True), Column(overflow="fold"))
    figures = Table.grid(*columns, padding=(0, 2))
    figures.width = WIDTH
    for name, value in _lines(forecast):
        figures.add_row(name, Text(value))
    model = plain(short_name(forecast.model))
    title = Text(f"Plan: {forecast.task} {plain(forecast.input)} with {model}", style="bold")
    notes = [Text(line, style="yellow") for line in forecast.warnings]
    return Group(title, figures, *notes, "", _samples(forecast))


def _lines(plan: Forecast) -> Iterator[tuple[str, str]]:
    same = 1 - plan.computed
    units = f"{plan.units:,} unit{'s' if plan.units != 1 else ''}"
    yield "rows", f"{plan.rows:,} in {units}" + (f"; {percent(same)} % identical" if same else "")
    yield from _time(plan)
    yield _name_of_hours(plan), _hours(plan)
    yield "bounded by", plan.bound
    yield "tokens in", _tokens(plan.read)
    yield "tokens out", _tokens(plan.written)
    yield "will fail", _failed(plan)
    for name, found in plan.failures.items():
        yield f"  {name}", f"{_share(found.share.share, found.share.interval)}"
        for reason, _ in found.reasons[:MOST_REASONS]:
            yield "", f"  {_cut(reason, WIDTH - 22)}"
    files = f"{plan.units:,} file{'s' if plan.units != 1 else ''}"
    yield "written", f"{amount(plan.size)}B in {files}"
    engines = _engines(plan.pilot_engines)
    pilot = f"{plan.pilot_rows:,} rows in {duration(plan.pilot_seconds)} with {engines}"
    yield "measured on", pilot


def _time(plan: Forecast) -> Iterator[tuple[str, str]]:
    found = plan.time
    engines = _engines(plan.replicas)
    yield "time", f"{duration(found.seconds)} ({_from_to(found.interval)}) with {engines}"
    rest = duration(found.once - found.start)
    yield "  once", f"{duration(found.start)} to start, {rest} to fill the engines and to end"
    yield "  then", f"{_rate(found.rows_per_second)} rows/s"


def _engines(count: int) -> str:
    return f"{count:,} engine{'s' if count != 1 else ''}"


def _from_to(interval: Interval) -> str:
    low, high = duration(interval.low), duration(interval.high)
    unit = high.rpartition(" ")[2]
    return f"{low.removesuffix(f' {unit}')} to {high}"


def _rate(rows: float) -> str:
    return f"{rows:,.0f}" if rows >= 100 else f"{rows:.1f}"  # noqa: PLR2004  three digits


def _name_of_hours(plan: Forecast) -> str:
    return "GPU-hours" if plan.gpus else "hours"


def _hours(plan: Forecast) -> str:
    hours = f"{_small(plan.hours_expected)} ({_small(plan.hours.low)} to {_small(plan.hours.high)})"
    is_served = plan.record["config"]["engine"].get("endpoint") is not None
    others = " of the server" if is_served else " of engines, which are not on GPUs"
    hours += "" if plan.gpus else others
    if plan.price is None or plan.cost is None:
        return f"{hours}; --price says what that costs"
    cost = f"{_small(plan.hours_expected * plan.price)}"
    between = f"{_small(plan.cost.low)} to {_small(plan.cost.high)}"
    return f"{hours}; costs {cost} ({between}) at {plan.price:g} an hour"


def _small(value: float) -> str:
    """Three digits, or what there is of a small number."""
    if value >= 10:  # noqa: PLR2004
        return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"  # noqa: PLR2004
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"  # noqa: PLR2004


def _tokens(found: Tokens) -> str:
    half, most, nearly_all, longest = found.quantiles
    return (
        f"{amount(found.total).strip()}; a row has {found.mean:,.0f} (half up to {half:,.0f}, 95 % "
        f"up to {most:,.0f}, 99 % up to {nearly_all:,.0f}, all up to {longest:,.0f})"
    )


def _failed(plan: Forecast) -> str:
    between = plan.failed.interval
    low, high = (round(share * plan.rows) for share in (between.low, between.high))
    share = _share(plan.failed.share, between)
    return f"{share}, {low:,} to {high:,} rows"


def _share(share: float, interval: Interval) -> str:
    return f"{percent(share)} % ({percents(interval.low, interval.high)})"


def amount(value: float) -> str:
    """A number with three digits and a decimal prefix: `12`, `3.4 M`."""
    for step in STEPS:
        if value < THOUSAND or step == STEPS[-1]:
            digits = 0 if not step or value >= 100 else 1  # noqa: PLR2004
            return f"{value:,.{digits}f} {step}"
        value /= THOUSAND
    raise AssertionError


def _samples(plan: Forecast) -> Table:
    table = Table(
        Column("some rows of it", ratio=3, overflow="ellipsis", no_wrap=True),
        Column("answer", ratio=5, overflow="ellipsis", no_wrap=True),
        width=WIDTH,
        box=None,
        padding=(0, 2, 0, 0),
    )
    for row in plan.samples:
        table.add_row(Text(_input_of(plan, row)), _answer_of(plan, row))
    return table


def _input_of(plan: Forecast, row: Mapping[str, Any]) -> str:
    """What a row is: the column that is read, or the first one."""
    prefix = plan.record["config"].get("prefix") or ""
    added = {f"{prefix}{name}" for name in (*ADDED.names, *plan.record["columns"])}
    own = [name for name in row if name not in added]
    shown = next((name for name in own if name in plan.reads), next(iter(own), f"{prefix}row_key"))
    return plain(" ".join(str(row[shown]).split()))


def _answer_of(plan: Forecast, row: Mapping[str, Any]) -> Text:
    prefix = plan.record["config"].get("prefix") or ""
    results = [f"{prefix}{name}" for name in plan.record["columns"]]
    found = {name: row[name] for name in results if row.get(name) is not None}
    if row[f"{prefix}error"] and not found:
        return Text(f"{row[f'{prefix}outcome']}: {_flat(row[f'{prefix}error'])}", style="red")
    first = next(iter(found.values()), "")
    if isinstance(first, str):
        return Text(_flat(first))
    shown = list(found.items())[:MOST_RESULTS]
    return Text(", ".join(f"{name} {_value(value)}" for name, value in shown))


def _value(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else _flat(value)


def _flat(value: object) -> str:
    return plain(" ".join(str(value).split()))


def _cut(text: str, width: int) -> str:
    flat = _flat(text)
    return flat if len(flat) <= width else flat[: width - 1] + "…"
