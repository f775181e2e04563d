"""Reads what `plan` foresaw, `OUTPUT.plan.json` beside OUTPUT, and sets it beside what happened.

Of that file nothing is taken for granted: what it tells of rows, tokens, time and storage is found
by the names of its fields, and everything else in it is shown as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.storage.location import Location

if TYPE_CHECKING:
    from pipeline.output.run_record import Record
    from pipeline.output.status import Status

SUFFIX = ".plan.json"
LARGEST = 8 * 2**20
MOST_FIELDS = 200
LONGEST = 300
ROWS_A_SECOND = re.compile(r"rows_(per|a)_(second|s)")
FOUND = {
    "rows": re.compile(r"(^|\.)(total_)?rows$"),
    "rows that fail": re.compile(
        r"(^|\.)(rows_)?(failed|failures|failing)(_rows)?(\.(rows|expected|estimate|mean))?$"
    ),
    "seconds": re.compile(
        r"(^|\.)(wall_)?(seconds|wall_time|wall_s)(\.(expected|estimate|mean|mid))?$"
    ),
    "rows/s": re.compile(r"(^|\.)(rows_per_second|rows_per_s)$"),
}
"""By what is compared, how the field is called that foresees it."""


@dataclass(frozen=True, kw_only=True)
class Foreseen:
    """What was foreseen.

    Attributes:
        compared: What it is, what was foreseen, and what happened.
        others: Further fields of the file, as text.
    """

    compared: tuple[tuple[str, str, str], ...]
    others: tuple[tuple[str, str], ...]


def read_plan_file(output: Location) -> Any:
    """The content of the file; None if there is none or it is no JSON."""
    where = Location(output.fs, output.path.rstrip("/") + SUFFIX)
    try:
        if where.info().size > LARGEST:
            return None
        return json.loads(where.read())
    except Exception:  # a file of anybody's: it does not matter to the report
        return None


def foreseen(content: Any, status: Status, record: Record) -> Foreseen | None:
    """What was foreseen beside what happened; None without a plan file.

    Args:
        content: See `read_plan_file`.
        status: Where the run stands.
        record: The run's record.
    """
    if not isinstance(content, Mapping):
        return None
    fields = dict(_flat(content))
    happened = _happened(status, record)
    compared, taken = [], set()
    for what, name in FOUND.items():
        field = next((field for field in fields if name.search(field.lower())), None)
        if field is not None and isinstance(fields[field], int | float) and what in happened:
            compared.append((what, _number(fields[field]), _number(happened[what])))
            taken.add(field)
    others = [(name, _text(value)) for name, value in fields.items() if name not in taken]
    return Foreseen(compared=tuple(compared), others=tuple(others[:MOST_FIELDS]))


def _happened(status: Status, record: Record) -> dict[str, float]:
    from pipeline import Outcome

    failed = sum(n for o, n in status.outcomes.items() if not Outcome(o).has_results)
    found: dict[str, float] = {"rows": status.rows_done, "rows that fail": failed}
    if status.finished is not None:
        found |= {"seconds": record.get("seconds", 0), "rows/s": record.get("rows_per_second", 0)}
    return found


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """All values of nested objects, by their path; a list is one value."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 100 else f"{value:,.2f}"  # noqa: PLR2004


def _text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    return _number(value)
