"""Decides in which order the units of a plan are worked on, where that is not the input's.

Their parts are in the input's order all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.output.plan import Plan
    from pipeline.sources.units import Unit

AT_ONCE = 1024
"""Units that are read together: a plan is fast to read from its start to its end only."""


def shuffled(plan: Plan, indices: np.ndarray, seed: int) -> Iterator[Unit]:
    """Yield units in a random order.

    Args:
        plan: The plan.
        indices: [n] int64, which units.
        seed: Another seed gives another order.

    Raises:
        OSError: The plan cannot be read.
    """
    order = np.random.default_rng(seed).permutation(indices).tolist()
    for start in range(0, len(order), AT_ONCE):
        some = order[start : start + AT_ONCE]
        units = {index: plan.unit(index) for index in sorted(some)}
        yield from (units[index] for index in some)
