"""Reads metrics as Prometheus does: over HTTP, from the port that Ray exports them on."""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from pipeline.metrics.table import PREFIX


@dataclass
class Scraped:
    """The last value of each series of a run, by metric and our labels.

    Attributes:
        run: The label `run`.
        values: By name without Ray's prefix and labels but `run` and `task`.
    """

    run: str
    values: dict[tuple[str, tuple[tuple[str, str], ...]], float] = field(default_factory=dict)

    def look(self) -> None:
        for sample in samples():
            if sample.labels.get("run") == self.run:
                self.values[sample.name.removeprefix(PREFIX), own_labels(sample)] = sample.value

    def of(self, name: str) -> dict[tuple[str, ...], float]:
        """Each series of a metric, by the values of its labels."""
        return {
            tuple(label for _, label in labels): value
            for (found, labels), value in self.values.items()
            if found == name
        }

    def total(self, name: str) -> float:
        return sum(self.of(name).values())


OWN = (  # in the order in which `of` gives them
    "outcome",
    "stage",
    "step",
    "where",
    "replica",
    "le",
)


def own_labels(sample: Sample) -> tuple[tuple[str, str], ...]:
    return tuple((name, sample.labels[name]) for name in OWN if name in sample.labels)


def samples() -> list[Sample]:
    """All that the first machine of the cluster exports now."""
    import ray

    (node, *_) = ray.nodes()
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    return [s for family in text_string_to_metric_families(text) for s in family.samples]


@contextmanager
def scraping(run: str, every: float = 2.0) -> Iterator[Scraped]:
    """Looks again and again within the block, as Prometheus would."""
    scraped, is_over = Scraped(run), threading.Event()

    def look() -> None:
        while not is_over.wait(every):
            with suppress(OSError):  # it has much to do, and is asked again
                scraped.look()

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    yield scraped
    is_over.set()
    thread.join()
