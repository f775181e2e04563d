"""Reads what `plan` foresaw, `OUTPUT.plan.json` beside OUTPUT, and sets it beside what happened.

Of that file nothing is taken for granted: what it tells of rows, tokens, time and storage is found
by the names of its fields, and everything else in it is shown as it is. A plan is of the rows that
OUTPUT did not have yet, and its time of as many engines.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

from pipeline import Outcome
from pipeline.storage.location import Location

if TYPE_CHECKING:
    from pipeline.output.run_record import Record
    from pipeline.output.status import Status

SUFFIX = ".plan.json"
LARGEST = 8 * 2**20
MOST_FIELDS = 200
LONGEST = 300
FOUND = {
    "rows": re.compile(r"(total_)?rows"),
    "share of rows that fail": re.compile(r"(.+\.)?(failed|failures|failing)(\.share)?"),
    "seconds": re.compile(r"(.+\.)?(wall_)?seconds"),
    "rows a second": re.compile(r"(.+\.)?rows_per_second"),
    "tokens of prompts": re.compile(r"(read|prompt|prompt_tokens|input_tokens)(\.total)?"),
    "tokens of answers": re.compile(r"(written|answers?|output_tokens)(\.total)?"),
}
"""By what is compared, how the field that foresees it may be called, with the objects it is in."""
OF_RECORD = {"seconds": "seconds", "rows a second": "rows_per_second"}
THERE, ENGINES = "there", "replicas"
"""Fields that say how many rows OUTPUT had already, and what the time holds for."""
SAME_ROWS = 0.05
"""By how much the rows of a run may differ from those that were planned, for its time to count."""
INTERVAL = ("interval.low", "interval.high")
"""Fields beside such a one, between which it is most likely."""


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


def foreseen(
    content: Any, status: Status, record: Record, tokens: tuple[float, float] = (0.0, 0.0)
) -> Foreseen | None:
    """What was foreseen beside what happened; None without a plan file.

    Args:
        content: See `read_plan_file`.
        status: Where the run stands.
        record: The run's record.
        tokens: Of all prompts, and of all answers, in OUTPUT.
    """
    if not isinstance(content, Mapping):
        return None
    fields = dict(_flat(content))
    there = fields[THERE] if _is_number(fields.get(THERE)) else 0
    happened = _happened(status, tokens, there) | _times(status, record, fields)
    compared, taken = [], set()
    for what, name in FOUND.items():
        field = next((f for f, v in fields.items() if name.fullmatch(f) and _is_number(v)), None)
        if field is not None and what in happened:
            around = [f"{field.rpartition('.')[0]}.{end}".lstrip(".") for end in INTERVAL]
            around = [end for end in around if end not in taken]  # of the first number beside it
            between = [fields[end] for end in around if _is_number(fields.get(end))]
            value = fields[field] + (there if what == "rows" else 0)
            compared.append((what, _expected(value, between), _number(happened[what])))
            taken |= {field, *around}
    others = [(f, _text(v)) for f, v in fields.items() if f not in taken and not _is_table(v)]
    return Foreseen(compared=tuple(compared), others=tuple(others[:MOST_FIELDS]))


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_table(value: Any) -> bool:
    """Whether it is a list of objects or lists, which no line can show."""
    return isinstance(value, list) and any(isinstance(item, list | Mapping) for item in value)


def _expected(value: float, between: list[float]) -> str:
    if len(between) != len(INTERVAL):
        return _number(value)
    return f"{_number(value)} ({_number(between[0])} to {_number(between[1])})"


def _happened(status: Status, tokens: tuple[float, float], there: float) -> dict[str, float]:
    """What is in OUTPUT; beside rows that were there before the plan, rows alone are comparable."""
    found: dict[str, float] = {"rows": status.rows_done}
    if status.rows_done and not there:
        failed = sum(n for o, n in status.outcomes.items() if not Outcome(o).has_results)
        found["share of rows that fail"] = failed / status.rows_done
        found |= {"tokens of prompts": tokens[0], "tokens of answers": tokens[1]}
    return found


def _times(status: Status, record: Record, fields: Mapping[str, Any]) -> dict[str, float]:
    """Those of the last run, if it was of the rows and engines that were planned: no retry, say."""
    planned, done = fields.get("rows"), record.get("new_rows")
    if status.finished is None or not _is_number(planned) or done is None:
        return {}
    engines = status.profile.engine.engines if status.profile else None
    if engines is not None and fields.get(ENGINES, engines) != engines:
        return {}
    if abs(done - planned) > SAME_ROWS * planned:
        return {}
    return {name: record[key] for name, key in OF_RECORD.items() if record.get(key)}


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """All values of nested objects, by their path; a list is one value."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def _number(value: float) -> str:
    """With commas; a small one with three digits."""
    if float(value).is_integer() or abs(value) >= 100:  # noqa: PLR2004
        return f"{value:,.0f}"
    return f"{value:,.3g}"


def _text(value: Any) -> str:
    if not _is_number(value):
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    return _number(value)
