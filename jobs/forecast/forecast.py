"""What a run will take: a frozen value, and the same as JSON.

It holds no credentials. Its sample outputs are rows of the input with their answers.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.forecast.course import Steady
from jobs.forecast.intervals import Interval
from jobs.forecast.predictor import Share, Time

FORMAT = 1
AT = (0.5, 0.95, 0.99, 1.0)
"""The quantiles of tokens that a forecast has."""


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Tokens of a run, read or written.

    Attributes:
        total: Of all rows.
        mean: Of a row.
        quantiles: At `AT`: half of the rows have at most so many, and so on.
    """

    total: int
    mean: float
    quantiles: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Failures:
    """Rows that will fail with one outcome.

    Attributes:
        share: Of all rows.
        reasons: Errors as they were told, the most frequent first, and in how many pilot rows.
    """

    share: Share
    reasons: tuple[tuple[str, int], ...]


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a run will take.

    Attributes:
        task: The task's name.
        input, output, model: As the run names them, without credentials.
        reads: The columns of INPUT that the task reads.
        rows: Rows that it will finish, those included that are identical to another one.
        computed: Of these, as a share, those that are computed.
        units: The pieces of INPUT that they are in; each becomes a file.
        there: Rows that OUTPUT has already.
        replicas: Engines.
        gpus: GPUs of each; 0 on a CPU, or where a server answers.
        time: Seconds.
        hours: GPU-hours, or hours of machines where there are no GPUs.
        bound: What bounds it, a phrase.
        read, written: Tokens.
        failed: All rows that will fail.
        failures: These by outcome.
        size: Bytes that it will write.
        price: Of an hour; None if nobody said.
        pilot_rows, pilot_seconds: What this was measured on.
        pilot_engines: How many engines the pilot had.
        model_class: What the engine loaded.
        samples: Rows of the pilot with their answers.
        warnings: What a reader must know, each in one line.
        record: What the run would write about itself (`pipeline.output.run_record`).
        made: When it was made, ISO 8601.
    """

    task: str
    input: str
    output: str
    model: str
    reads: tuple[str, ...]
    rows: int
    computed: float
    units: int
    there: int
    replicas: int
    gpus: int
    time: Time
    hours: Interval
    bound: str
    read: Tokens
    written: Tokens
    failed: Share
    failures: Mapping[str, Failures]
    size: int
    price: float | None
    pilot_rows: int
    pilot_seconds: float
    pilot_engines: int
    model_class: str | None
    samples: Sequence[Mapping[str, Any]]
    warnings: tuple[str, ...]
    record: Mapping[str, Any]
    made: str

    @property
    def hours_expected(self) -> float:
        """Hours of GPUs, or of machines."""
        return self.time.seconds * self.replicas * max(self.gpus, 1) / 3600

    @property
    def cost(self) -> Interval | None:
        """At `price`; None without one."""
        if self.price is None:
            return None
        return Interval(self.hours.low * self.price, self.hours.high * self.price)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        values = dataclasses.asdict(self)
        found: dict[str, Any] = json.loads(json.dumps({"format": FORMAT, **values}, default=str))
        return found

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Forecast | None:
        """What `to_json` gave; None if another version's did."""
        if values.get("format") != FORMAT:
            return None
        named = {name: values[name] for name in cls.__dataclass_fields__}
        failures = {name: _failures(one) for name, one in values["failures"].items()}
        time = {**values["time"], "interval": Interval(**values["time"]["interval"])}
        read, written = (
            Tokens(**{**values[name], "quantiles": tuple(values[name]["quantiles"])})
            for name in ("read", "written")
        )
        return cls(
            **{
                **named,
                "time": Time(**{**time, "steady": Steady(**time["steady"])}),
                "hours": Interval(**values["hours"]),
                "read": read,
                "written": written,
                "failed": _share(values["failed"]),
                "failures": failures,
                "reads": tuple(values["reads"]),
                "warnings": tuple(values["warnings"]),
            }
        )


def _share(values: Mapping[str, Any]) -> Share:
    return Share(share=values["share"], interval=Interval(**values["interval"]))


def _failures(values: Mapping[str, Any]) -> Failures:
    reasons = tuple((str(text), int(count)) for text, count in values["reasons"])
    return Failures(share=_share(values["share"]), reasons=reasons)
