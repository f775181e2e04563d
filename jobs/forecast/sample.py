"""Decides which rows a pilot computes: rows of many units and files, each way through sizes.

A small input is read whole. Of a larger one some units are looked at, evenly over all rows, and of
each a window: some hundred rows in a row. (JSON lines, CSV and tar shards can only be read from the
begin of a unit, so there it is the first rows.) Of images and videos the listing has the sizes, and
nothing is read. The rows that were looked at are divided into strata by their sizes, and of each
some are drawn, evenly over the units. How many rows are identical, or are kept as they have a value
already, is counted in passing, by the same code that reads for a run.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from jobs.forecast.predictor import Population
from jobs.forecast.strata import allocate, stratify
from pipeline import Outcome, RunError, UserError
from pipeline.sources import ROW_A_FILE, Chosen, Kind
from pipeline.sources.source import size_of
from pipeline.sources.units import Cut, Unit, Work
from pipeline.stages.blocks import unpack, unseal
from pipeline.stages.read import pack_work, read_units

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pipeline.execution.preparation import CheckedRun
    from pipeline.stages.blocks import Item

WHOLE_ROWS = 50_000
WHOLE_BYTES = 256 * 2**20
"""An input of at most so many rows in files of so many bytes is looked at whole."""
WHOLE_FILES = 2_000_000
"""Images or videos of which all sizes are looked at."""
ROWS_OF_UNIT = 32
"""Rows of a pilot from each unit that is looked at, about; with fewer, blocks would be tiny."""
LEAST_UNITS, MOST_UNITS = 4, 64
WINDOW_ROWS = 512
WINDOW_BYTES = 16 * 2**20
"""What is looked at of a unit."""
BLOCK_ROWS = 64
"""Rows that are read at once."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """Rows of a unit that are looked at.

    Attributes:
        unit: The unit's place among the cuts.
        first: Position of the first row in the unit.
        rows: How many rows, at most.
        stands_for: Rows of the input that these stand for.
    """

    unit: int
    first: int
    rows: int
    stands_for: float


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """Rows that were looked at, without those that need not be computed.

    Attributes:
        units: [n] int64, the place of each one's unit among the cuts.
        positions: [n] int64, its position in the unit.
        sizes: [n] float64, bytes of what it holds.
        weights: [n] float64, rows of the input that each one stands for, identical ones aside.
        copies: [n] int64, how many rows that were looked at are identical to it, itself included.
        kept: Rows of the input that need no computing.
        unreadable: Units that cannot be read, and why, each in one line.
    """

    units: np.ndarray
    positions: np.ndarray
    sizes: np.ndarray
    weights: np.ndarray
    copies: np.ndarray
    kept: float = 0.0
    unreadable: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The rows of a pilot.

    Attributes:
        chosen: As a run takes them.
        population: The rows that they stand for.
        strata: The stratum of each row, in the order of the pilot's OUTPUT.
        copies: See `Candidates`.
        sizes: See `Candidates`.
        units: How many of the input's units they are of.
        unreadable: See `Candidates`.
    """

    chosen: Chosen
    population: Population
    strata: tuple[int, ...]
    copies: tuple[int, ...]
    sizes: tuple[int, ...]
    units: int
    unreadable: tuple[str, ...] = ()


def draw(checked: CheckedRun, cuts: Sequence[Cut], rows: int) -> Sample:
    """Look at the input and draw the rows of a pilot; the same ones for the same input and seed.

    Args:
        checked: The run.
        cuts: The rows that it has to compute.
        rows: How many are drawn.

    Raises:
        UserError: INPUT cannot be read, or has no rows to compute.
        RunError: Its store cannot be read.
        OSError: It cannot be read for now.
    """
    if not any(cut.rows for cut in cuts):
        raise UserError(_nothing(checked))
    found = candidates(checked, cuts, rows)
    if not len(found.units):
        raise UserError(found.unreadable[0] if found.unreadable else _nothing(checked))
    strata = stratify(found.sizes, found.weights * found.copies)
    each = found.weights * found.copies
    shares = np.bincount(strata, weights=each) / each.sum()
    counts = np.bincount(strata, minlength=len(shares))
    drawn = allocate(counts.tolist(), shares.tolist(), rows)
    places = _places(strata, drawn, checked.config.sample_seed)
    picked = found.units[places]
    borders = np.flatnonzero(np.diff(picked)) + 1
    groups = np.split(places, borders)
    kind, unit_rows = checked.source.kind, checked.config.unit_rows
    by_unit = ((cuts[found.units[group[0]]], found.positions[group]) for group in groups)
    total = sum(cut.rows for cut in cuts)
    return Sample(
        chosen=Chosen.of_rows(by_unit, kind, unit_rows),
        population=Population(
            rows=round(total * each.sum() / (each.sum() + found.kept)),
            computed=float(found.weights.sum() / each.sum()),
            shares=tuple(shares.tolist()),
        ),
        strata=tuple(strata[places].tolist()),
        copies=tuple(found.copies[places].tolist()),
        sizes=tuple(found.sizes[places].astype(int).tolist()),
        units=len(groups),
        unreadable=found.unreadable,
    )


def _nothing(checked: CheckedRun) -> str:
    """Why there is nothing to plan."""
    if checked.plan is not None:
        return f"plan: OUTPUT {checked.output} has all rows of INPUT, so there is nothing to plan"
    return f"plan: no row of INPUT {checked.listing.root} is to be computed"


def _places(strata: np.ndarray, drawn: Sequence[int], seed: int) -> np.ndarray:
    """[n] int64, ascending: of each stratum's rows so many, evenly from a random first one."""
    random = np.random.default_rng(seed)
    found = []
    for stratum, count in enumerate(drawn):
        of_it = np.flatnonzero(strata == stratum)
        steps = (np.arange(count) + random.random()) * len(of_it) / max(count, 1)
        found.append(of_it[steps.astype(np.int64)])
    return np.sort(np.concatenate(found))


def candidates(checked: CheckedRun, cuts: Sequence[Cut], rows: int) -> Candidates:
    """Look at rows to draw from; see the module. Raises like `draw`."""
    if checked.source.kind in ROW_A_FILE:
        return _files(checked, cuts, windows(cuts, rows, is_whole=_is_few(cuts)))
    whole = _is_small(checked, cuts)
    looked = [_look(checked, cuts, one) for one in windows(cuts, rows, is_whole=whole)]
    arrays = ("units", "positions", "sizes", "weights", "copies")
    joined = {name: np.concatenate([getattr(one, name) for one in looked]) for name in arrays}
    unreadable = tuple(line for one in looked for line in one.unreadable)
    return Candidates(**joined, kept=sum(one.kept for one in looked), unreadable=unreadable)


def windows(cuts: Sequence[Cut], rows: int, *, is_whole: bool) -> list[Window]:
    """What is looked at of an input: all of it, or windows evenly over its rows.

    Args:
        cuts: The input's units.
        rows: Rows of the pilot.
        is_whole: Whether all of it is looked at.
    """
    sizes = np.array([cut.rows for cut in cuts], np.int64)
    if is_whole:
        every = enumerate(sizes.tolist())
        return [Window(unit=at, first=0, rows=n, stands_for=n) for at, n in every if n]
    total, count = int(sizes.sum()), min(max(rows // ROWS_OF_UNIT, LEAST_UNITS), MOST_UNITS)
    points = ((np.arange(count) + 0.5) * total / count).astype(np.int64)
    units = np.searchsorted(np.cumsum(sizes), points, side="right")
    begins = np.cumsum(sizes) - sizes
    found = []
    for unit, hits in sorted(Counter(units.tolist()).items()):
        first = int(points[np.argmax(units == unit)] - begins[unit])
        some = min(int(sizes[unit]), WINDOW_ROWS * hits)
        first = min(first, int(sizes[unit]) - some)
        stands_for = hits * total / count
        found.append(Window(unit=unit, first=first, rows=some, stands_for=stands_for))
    return found


def _is_few(cuts: Sequence[Cut]) -> bool:
    return sum(cut.rows for cut in cuts) <= WHOLE_FILES


def _is_small(checked: CheckedRun, cuts: Sequence[Cut]) -> bool:
    files = checked.listing.files
    if len(files) > WHOLE_ROWS or sum(cut.rows for cut in cuts) > WHOLE_ROWS:
        return False
    return sum(file.size for file in files) <= WHOLE_BYTES


def _files(checked: CheckedRun, cuts: Sequence[Cut], looked: Sequence[Window]) -> Candidates:
    """Candidates of an input each of whose files is a row."""
    wanted: dict[str, tuple[int, int, float]] = {}
    for one in looked:
        for at in range(one.first, one.first + one.rows):
            wanted[cuts[one.unit].files[at]] = (one.unit, at, one.stands_for / one.rows)
    sizes = {file.path: file.size for file in checked.listing.files if file.path in wanted}
    units, positions, weights = (np.array(column) for column in zip(*wanted.values(), strict=True))
    return Candidates(
        units=units,
        positions=positions,
        weights=weights,
        sizes=np.array([sizes[path] for path in wanted], np.float64),
        copies=np.ones(len(units), np.int64),
    )


def _look(checked: CheckedRun, cuts: Sequence[Cut], window: Window) -> Candidates:
    """Candidates of one window.

    A unit's kept rows come first, so what is not looked at of a window are rows to compute.
    """
    read, first = _piece(cuts[window.unit], window, checked.source.kind)
    rows = min(window.rows, read.rows)
    sizes: dict[int, int] = {}
    copies: Counter[int] = Counter()
    kept = computed = held = 0
    unreadable: list[str] = []
    for item in _items(checked, read, rows):
        if item.fault is not None:
            _check_goes_on(item)
            unreadable.append(item.fault.message)
            rows = kept + computed
            break
        if item.outcome is Outcome.KEPT:
            kept += 1
            continue
        computed += 1
        copies[item.position if item.same_as is None else item.same_as] += 1
        if item.same_as is None:
            sizes[item.position] = size_of(item.payload)
            held += sizes[item.position]
        if kept + computed == rows or held >= WINDOW_BYTES * window.rows / WINDOW_ROWS:
            break
    kept_rows = window.stands_for * kept / max(rows, 1)
    each = (window.stands_for - kept_rows) / max(computed, 1)
    return Candidates(
        units=np.full(len(sizes), window.unit, np.int64),
        positions=np.array([*sizes], np.int64) + first,
        sizes=np.array([*sizes.values()], np.float64),
        weights=np.full(len(sizes), each),
        copies=np.array([copies[position] for position in sizes], np.int64),
        kept=kept_rows,
        unreadable=tuple(unreadable),
    )


def _piece(cut: Cut, window: Window, kind: Kind) -> tuple[Cut, int]:
    """What is read for a window, and the position of its first row in the unit."""
    if kind is not Kind.PARQUET or cut.taken is not None:
        return cut, 0
    start = cut.start + window.first
    return replace(cut, start=start, stop=start + window.rows), window.first


def _items(checked: CheckedRun, cut: Cut, rows: int) -> Iterator[Item]:
    """The first rows of a cut as a run reads them."""
    known: Mapping[str, object] = {field.name: getattr(cut, field.name) for field in fields(Cut)}
    unit = Unit(**known, index=0, id="", part="")  # type: ignore[arg-type]
    config = checked.config
    blocks = read_units(
        pa.table({"work": [pack_work(Work(unit, tuple(range(rows))))]}),
        checked.source,
        [*checked.task.columns],
        config.dedup,
        BLOCK_ROWS,
        config.missing,
    )
    for sealed in blocks:
        for block in unseal(sealed):
            yield from unpack(block)


def _check_goes_on(item: Item) -> None:
    """Raises where a fault ends a run: a store that accepts no credentials, say."""
    assert item.fault is not None
    if item.fault.ends_run:
        raise (UserError if item.fault.is_users else RunError)(item.fault.message)
