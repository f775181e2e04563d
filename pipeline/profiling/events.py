"""How often something happened in this process that no step's time tells.

    store_retry      a store or a server of images had to be asked again
    image_refused    an image that a store refused as a whole
    endpoint_retry   a request to a server that is the engine had to be sent again
    engine_restart   an engine took the place of one that died

Any thread notes them. They travel with the next rows that leave the process, like all that is
measured (`measures`).
"""

from __future__ import annotations

import threading
from collections import Counter

_lock = threading.Lock()
_counts: Counter[str] = Counter()


def note(event: str, times: int = 1) -> None:
    """Count an event."""
    with _lock:
        _counts[event] += times


def take() -> dict[str, int]:
    """How often each happened since the last call; those that did not are left out."""
    with _lock:
        taken = {event: times for event, times in _counts.items() if times}
        _counts.clear()
    return taken
