"""Measures how much of this machine's CPUs others used meanwhile: a pilot beside them plans wrong.

Others are all processes that this one has not started and, where this is a virtual machine, its
neighbours on the host. What a process does in its last second, before it ends, counts as theirs.
"""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Iterator

EVERY_S = 1.0


@dataclass(kw_only=True)
class OtherLoad:
    """CPU seconds so far.

    Attributes:
        all: Those of the whole machine, the time included that its host gave to others.
        own: Those of this process and all that it has started.
        offered: Those that all CPUs together have.
    """

    all: float = 0.0
    own: float = 0.0
    offered: float = 0.0

    @property
    def share(self) -> float:
        """What others used of all that there was, from 0 to 1."""
        return max(0.0, self.all - self.own) / self.offered if self.offered else 0.0


@contextlib.contextmanager
def other_load() -> Iterator[OtherLoad]:
    """Measure it as long as the block; it is complete after its end."""
    load, done = OtherLoad(), threading.Event()
    watching = threading.Thread(target=_watch, args=(load, done), daemon=True)
    watching.start()
    try:
        yield load
    finally:
        done.set()
        watching.join()


def _watch(load: OtherLoad, done: threading.Event) -> None:
    began, busy, seen = time.monotonic(), _busy(), _own_processes()
    while True:
        is_last = done.wait(EVERY_S)
        now = _own_processes()
        load.own += sum(used - seen.get(who, 0.0) for who, used in now.items())
        seen |= now
        load.all = _busy() - busy
        load.offered = (time.monotonic() - began) * psutil.cpu_count()
        if is_last:
            return


def _busy() -> float:
    """CPU seconds that the machine has not been idle since it started."""
    times = psutil.cpu_times()
    # Linux counts a guest's time in `user` too.
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)


def _own_processes() -> dict[tuple[int, float], float]:
    """CPU seconds of this process and all below it, by pid and start."""
    found = {}
    me = psutil.Process()
    for process in (me, *me.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess), process.oneshot():
            used = process.cpu_times()
            found[process.pid, process.create_time()] = used.user + used.system
    return found
