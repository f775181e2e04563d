"""Ray's instruments (`ray.util.metrics`) for the metrics of the table, in this process.

They are made when they are first used, and only where this process is connected to Ray. What goes
wrong with them is not worth a run: it is logged once, and nothing more is told.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from pipeline.metrics.table import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.metrics.table import Metric


class Instruments:
    """One process's. An update takes some 5 microseconds (Ray 2.60): not to be made for each row.

    Args:
        tags: Values of the labels that all its metrics have.
    """

    def __init__(self, tags: Mapping[str, str]) -> None:
        self._tags = dict(tags)
        self._made: dict[str, Any] = {}
        self._is_off = False

    def tell(self, metric: Metric, value: float, tags: Mapping[str, str] | None = None) -> None:
        """Add to a counter, set a gauge, or observe for a histogram.

        Args:
            metric: Which one.
            value: How much. Of a counter, 0 is nothing to tell.
            tags: Values of its other labels.
        """
        if self._is_off or not _is_connected():
            return
        if metric.kind is Kind.COUNTER and value <= 0:
            return
        try:
            self._tell(metric, value, {**self._tags, **(tags or {})})
        except Exception:  # whatever Ray raises while it connects, disconnects, or refuses a name
            self._is_off = True
            logging.getLogger(__name__).warning("metrics are off from now on", exc_info=True)

    def _tell(self, metric: Metric, value: float, tags: dict[str, str]) -> None:
        made = self._made.get(metric.name)
        if made is None:
            made = self._made[metric.name] = _instrument(metric)
        match metric.kind:
            case Kind.COUNTER:
                made.inc(value, tags)
            case Kind.GAUGE:
                made.set(value, tags)
            case Kind.HISTOGRAM:
                made.observe(value, tags)


def _is_connected() -> bool:
    import ray

    return bool(ray.is_initialized())


def _instrument(metric: Metric) -> Any:
    from ray.util import metrics

    if metric.kind is Kind.HISTOGRAM:
        return metrics.Histogram(
            metric.name, metric.description, [*metric.buckets], tag_keys=metric.labels
        )
    kinds = {Kind.COUNTER: metrics.Counter, Kind.GAUGE: metrics.Gauge}
    return kinds[metric.kind](metric.name, metric.description, tag_keys=metric.labels)
