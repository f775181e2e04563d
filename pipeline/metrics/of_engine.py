"""What the actor of an engine tells while it works: what the engine has at this moment.

What adds up (steps, hits of the prefix cache) the driver tells, with all else that adds up: an
actor that dies would take it along.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.metrics import table
from pipeline.metrics.instruments import Instruments

if TYPE_CHECKING:
    from pipeline.metrics.labels import RunLabels
    from pipeline.profiling.measures import EngineSlice


class EngineMetrics:
    """One engine's.

    Args:
        labels: The run's.
        replica: Tells it apart from the run's other engines; it stays when the actor is restarted.
    """

    def __init__(self, labels: RunLabels, replica: str) -> None:
        self._instruments = Instruments({**labels.as_tags(), "replica": replica})

    def tell(self, piece: EngineSlice) -> None:
        """Tell the last second of the engine; to be called about once a second."""
        length = max(piece.ended - piece.began, 1e-9)
        values = {
            table.ENGINE_RUNNING: piece.running / length,
            table.ENGINE_WAITING: piece.waiting / length,
            table.ENGINE_QUEUED: piece.queued / length,
            table.ENGINE_LOOP_BUSY: piece.busy / length,
            table.ENGINE_SLOTS: float(piece.slots),
        }
        for metric, value in values.items():
            self._instruments.tell(metric, value)
