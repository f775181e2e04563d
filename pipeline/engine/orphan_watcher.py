"""The watcher of `orphans`: waits until a process ends, then ends all that it started.

A script of its own that imports nothing but the standard library, so that it starts at once and
needs little memory. Decides which processes belong to the one that it guards, and how they end:
SIGTERM, some time, SIGKILL. Its standard input is a pipe from the guarded process: a byte says that
the engine is ready, and that the pipe closes says that the process has ended.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import time
from dataclasses import dataclass, field

LOOK_SECONDS = 0.5
"""Time between two looks at the guarded process. The pipe alone is not enough: a process that it
forked, without running another program, holds the pipe's other end as well."""
READY_GRACE_SECONDS = 30.0
"""Time to end after SIGTERM for an engine that is ready: it gives back its shared memory."""
START_GRACE_SECONDS = 2.0
"""The same for one that is starting. vLLM's engine core (0.32) only notes a SIGTERM until it has
loaded its model, which may take minutes."""
TRACKER_SECONDS = 2.0
"""Time for Python's resource trackers to remove the shared memory of processes that were killed."""
STEP_SECONDS = 0.1
START_TIME_FIELD = 19
"""Of /proc/PID/stat, counted from the state, which follows the name."""


@dataclass(frozen=True, slots=True)
class Process:
    """A line of the process table; its start time tells it from another one of the same id."""

    pid: int
    parent: int
    group: int
    started: int


def process_table() -> dict[int, Process]:
    """All processes that run, by id; those that have ended and are not waited for are left out."""
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                text = file.read()
        except OSError:  # it has ended
            continue
        state, parent, group, *rest = text[text.rindex(b")") + 2 :].split()
        if state not in (b"Z", b"X"):
            started = int(rest[START_TIME_FIELD - 3])
            found[int(name)] = Process(int(name), int(parent), int(group), started)
    return found


@dataclass
class Family:
    """What a process has started, and what that has started.

    Attributes:
        guarded: Id of the process, which is not a member itself.
        started: When it started.
        group: Id of the process group that it and all that it starts are in; 0 if it has none of
            its own.
        others: Processes that it started before; they and theirs are no members.
        has_adopted: Whether processes that others have started are members too.
    """

    guarded: int
    started: int
    group: int
    others: frozenset[Process]
    has_adopted: bool = False
    _known: set[tuple[int, int]] = field(default_factory=set)

    def adopt(self, process: Process) -> None:
        """Count another process, and what it starts, as started by the guarded one."""
        self.has_adopted = True
        self._known.add((process.pid, process.started))

    def members(self) -> list[Process]:
        """Those that run now.

        They are found by the group, or by their parents: then only if they were seen before those
        ended.
        """
        table = process_table()
        guarded = table.get(self.guarded)
        if guarded is not None and guarded.started != self.started:
            guarded = None  # the id is another's by now
        left_out = {os.getpid(), *([guarded.pid] if guarded else [])} | {
            other.pid
            for other in self.others
            if other.pid in table and table[other.pid].started == other.started
        }
        parents = {guarded.pid} if guarded else set()
        found: set[int] = set()
        while more := {
            process.pid
            for process in table.values()
            if process.pid not in found | left_out and self._belongs(process, parents | found)
        }:
            found |= more
        members = [table[pid] for pid in sorted(found)]
        self._known |= {(process.pid, process.started) for process in members}
        return members

    def _belongs(self, process: Process, parents: set[int]) -> bool:
        return (
            (self.group != 0 and process.group == self.group)
            or process.parent in parents
            or (process.pid, process.started) in self._known
        )


def wait_for_end(family: Family) -> bool:
    """Wait until the guarded process has ended. Returns whether its engine was ready."""
    is_ready = False
    while os.getppid() == family.guarded:
        if select.select([0], [], [], LOOK_SECONDS)[0]:
            if not os.read(0, 1):
                break
            is_ready = True
        elif not family.group or family.has_adopted:
            family.members()
    return is_ready


def end(family: Family, grace_seconds: float) -> None:
    """End all members, also those that start meanwhile."""
    told: set[tuple[int, int]] = set()
    deadline = time.monotonic() + grace_seconds
    while (members := family.members()) and time.monotonic() < deadline:
        for process in members:
            if (process.pid, process.started) not in told:
                told.add((process.pid, process.started))
                send(process, signal.SIGTERM)
        time.sleep(STEP_SECONDS)
    deadline = time.monotonic() + TRACKER_SECONDS
    while members := family.members():
        for process in members:
            if time.monotonic() > deadline or not is_tracker(process):
                send(process, signal.SIGKILL)
        time.sleep(STEP_SECONDS)


def send(process: Process, number: signal.Signals) -> None:
    """Send a signal, unless the process has ended or is not ours any more."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(process.pid, number)


def is_tracker(process: Process) -> bool:
    """Whether this is a resource tracker of `multiprocessing`."""
    try:
        with open(f"/proc/{process.pid}/cmdline", "rb") as file:
            return b"multiprocessing.resource_tracker" in file.read()
    except OSError:
        return False


def main(guarded: int, group: int, folder: str, *adopted: int) -> None:
    """Guard a process; afterwards remove a folder that its engine used, if there is one."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    table = process_table()
    others = frozenset(p for p in table.values() if p.parent == guarded and p.pid != os.getpid())
    started = table[guarded].started if guarded in table else -1
    family = Family(guarded, started, group, others)
    for pid in adopted:
        if pid in table:
            family.adopt(table[pid])
    print("watching", flush=True)
    is_ready = wait_for_end(family)
    end(family, READY_GRACE_SECONDS if is_ready else START_GRACE_SECONDS)
    if folder:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], *map(int, sys.argv[4:]))
