"""The facts of a run as JSON, one object a line: `time`, `event`, `job`, and what the event has.

    {"time": "2026-11-30T05:23:58.120Z", "event": "progress", "job": "caption", "rows": 1200, ...}

Times are in UTC, with milliseconds. A field that is not known yet is null.
"""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from pipeline.contract.redaction import redact

if TYPE_CHECKING:
    from pipeline.execution.display.facts import Facts

REGULAR_S = 10.0
"""Time between two objects with figures."""


@dataclass(frozen=True)
class JsonLog:
    """A stream of JSON objects, one a line.

    Attributes:
        stream: Where they are written, as they come.
    """

    stream: IO[str]

    def write(self, event: str, **values: object) -> None:
        """Write one object.

        Args:
            event: Its kind.
            values: Its other fields, as JSON values.
        """
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        fields = {"time": now.replace("+00:00", "Z"), "event": event, **_redacted(values)}
        self.stream.write(json.dumps(fields, ensure_ascii=False) + "\n")
        self.stream.flush()


def _redacted(value: Any) -> Any:
    """A JSON value whose texts are redacted; their quotes and commas stay JSON's own."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {name: _redacted(one) for name, one in value.items()}
    return [*map(_redacted, value)] if isinstance(value, (list, tuple)) else value


class JsonDisplay:
    """Shows a run as JSON; see `display.Display`.

    Args:
        title: The name of its task.
        log: Where it is written.
    """

    regular_s = REGULAR_S
    changes_in_place = False

    def __init__(self, title: str, log: JsonLog) -> None:
        self._title = title
        self._log = log

    def begin(self, facts: Facts) -> None:
        """See `Display.begin`."""

    def end(self, facts: Facts) -> None:
        """See `Display.end`."""
        self.show(facts)

    def tell(self, event: str, text: str, **values: object) -> None:
        """See `Display.tell`."""
        self._log.write(event, job=self._title, message=text, **values)

    def show(self, facts: Facts) -> None:
        """See `Display.show`."""
        self._log.write(
            "progress",
            job=self._title,
            rows=facts.done,
            of=facts.total,
            rows_there=facts.there,
            failed_before=facts.failed_before,
            outcomes=dict(facts.outcomes),
            rows_per_second=round(facts.rows_per_second, 2) or None,
            input_tokens_per_second=round(facts.input_tokens_per_second, 1),
            output_tokens_per_second=round(facts.output_tokens_per_second, 1),
            seconds=round(facts.seconds, 1),
            seconds_left=None if facts.seconds_left is None else round(facts.seconds_left),
            doing=facts.doing or None,
            bound=facts.bound,
        )
