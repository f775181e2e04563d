"""Whether another run is at work in an OUTPUT: each driver has a heartbeat beside its epoch.

A heartbeat is a small file, `OUTPUT/_gemma3_batch/drivers/<token>.alive`, that says who its driver
is. The driver renews it every `BEAT_S` and removes it at its end. One that was killed cannot, so a
heartbeat may be stale:

    of this machine       stale as soon as there is no such process any more
    of another machine    stale if it is not renewed for `STALE_S`; until then a second run waits

The clocks of two machines are never compared: only whether the file changes. A heartbeat is written
before its driver takes an epoch. So of drivers that start at the same moment each sees those with
lower epochs, and the lowest alone goes on.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import socket
import threading
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.contract.errors import UserError
from pipeline.output.fencing import Epoch, begin_epoch, drivers_folder, tokens_before
from pipeline.storage.atomic import overwrite, remove

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from pipeline.storage.location import Location

BEAT_S = 10.0
"""Time between two renewals."""
STALE_S = 30.0
"""Time without a renewal after which the driver of another machine counts as gone."""
POLL_S = 1.0
STOP_S = 5.0
"""Time for a renewal to end, at the end of a driver; a heartbeat that is left is stale soon."""
SUFFIX = ".alive"
_OF_THIS_PROCESS: set[str] = set()
"""Tokens of the drivers at work in this process, which may have several one after the other."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where process ids mean the same: a boot of a kernel, and a namespace of its processes."""

    host: str
    boot: str
    namespace: str


@dataclass(frozen=True, kw_only=True)
class Sign:
    """Who a driver is.

    Attributes:
        token: What tells it from all others.
        work: `run` or `retry`.
        host, boot, namespace: Its machine, see `Machine`.
        pid: Its process.
        started: When that process started, in ticks since the boot; 0 if that cannot be known.
        since: When the driver started, ISO 8601, by its own clock.
    """

    token: str
    work: str
    host: str
    boot: str
    namespace: str
    pid: int
    started: int
    since: str

    @property
    def name(self) -> str:
        """For messages."""
        return f"a {self.work}, since {self.since} on {self.host} (process {self.pid})"


class Others:
    """The other drivers of an OUTPUT; remembers which of them are gone.

    Args:
        output: OUTPUT.
        say: Shows what is waited for.
    """

    def __init__(self, output: Location, say: Callable[[str], None]) -> None:
        self._folder = drivers_folder(output)
        self._say = say
        self._gone: set[str] = set()

    def at_work(
        self, own: str = "", among: Callable[[], Collection[str]] | None = None
    ) -> list[Sign]:
        """Those that live. Waits for a sign of those on other machines, for `STALE_S` at most.

        Args:
            own: The token of the driver that asks.
            among: Gives the tokens of the drivers that count; None for any. It is asked only if
                there are others at all.

        Raises:
            OSError: OUTPUT cannot be read.
        """
        living, unsure = [], []
        tokens = self._tokens() - self._gone - {own}
        if tokens and among is not None:
            tokens &= {*among()}
        for token in tokens:
            body = self._read(token)
            sign = None if body is None else _parsed(body)
            if sign is None:
                continue
            is_there = _is_there(sign)
            if is_there:
                living.append(sign)
            elif is_there is None:
                unsure.append((sign, body))
            else:
                self._forget(token)
        if not living and unsure:
            living = self._renewed(unsure)
        return sorted(living, key=lambda sign: sign.since)

    def _renewed(self, unsure: list[tuple[Sign, bytes | None]]) -> list[Sign]:
        """Those whose heartbeat changes."""
        self._say(
            f"waiting up to {STALE_S:.0f} s for a sign of life of {unsure[0][0].name}; it may have "
            "ended without a word"
        )
        give_up = time.monotonic() + STALE_S
        while time.monotonic() < give_up:
            time.sleep(POLL_S)
            now = [(sign, before, self._read(sign.token)) for sign, before in unsure]
            renewed = [sign for sign, before, body in now if body not in (before, None)]
            if renewed:
                return renewed
            unsure = [(sign, before) for sign, before, body in now if body is not None]
            if not unsure:
                return []
        for sign, _ in unsure:
            self._forget(sign.token)
        return []

    def _tokens(self) -> set[str]:
        names = self._folder.names()
        return {name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX)}

    def _read(self, token: str) -> bytes | None:
        try:
            return (self._folder / f"{token}{SUFFIX}").read()
        except FileNotFoundError:
            return None

    def _forget(self, token: str) -> None:
        """A driver that is gone. Should it live after all, its next heartbeat comes back."""
        self._gone.add(token)
        remove(self._folder / f"{token}{SUFFIX}")


class Heartbeat:
    """This driver's own sign of life.

    Args:
        output: OUTPUT.
        work: `run` or `retry`.
    """

    def __init__(self, output: Location, work: str) -> None:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self.sign = Sign(
            token=uuid.uuid4().hex,
            work=work,
            pid=os.getpid(),
            started=_start_of(os.getpid()) or 0,
            since=now,
            **asdict(_this_machine()),
        )
        self._where = drivers_folder(output) / f"{self.sign.token}{SUFFIX}"
        self._ended = threading.Event()
        self._beats = 0
        self._thread = threading.Thread(target=self._renew, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Write it, and renew it from now on. Raises OSError where OUTPUT cannot be written to."""
        _OF_THIS_PROCESS.add(self.sign.token)
        self._write()
        self._thread.start()

    def stop(self) -> None:
        """Remove it; may be called twice. A store that cannot be reached is left as it is."""
        if self._ended.is_set():
            return
        self._ended.set()
        _OF_THIS_PROCESS.discard(self.sign.token)
        if self._thread.is_alive():
            self._thread.join(STOP_S)
        if self._thread.is_alive():  # it waits for a store that does not answer
            return
        with contextlib.suppress(Exception):  # the store's client has errors of many kinds
            remove(self._where)

    def _renew(self) -> None:
        while not self._ended.wait(BEAT_S):
            with contextlib.suppress(Exception):  # as above; the next one may succeed
                self._write()

    def _write(self) -> None:
        self._beats += 1
        body = json.dumps({**asdict(self.sign), "beats": self._beats}).encode()
        overwrite(self._where, body, sync=False)


@dataclass(frozen=True)
class Turn:
    """A driver that may work.

    Attributes:
        epoch: Its number.
        heartbeat: Its sign of life, which must be stopped before OUTPUT is removed.
        beside: The drivers that were at work when it began; none unless it joins.
    """

    epoch: Epoch
    heartbeat: Heartbeat
    beside: Sequence[Sign]


def check_alone(output: Location, others: Others) -> None:
    """Refuse to work where another run does. Raises UserError and OSError."""
    living = others.at_work()
    if living:
        raise UserError(_refusal(output, living))


@contextlib.contextmanager
def turn(output: Location, work: str, others: Others, *, joins: bool = False) -> Iterator[Turn]:
    """Become the newest driver, with a heartbeat while the block runs.

    Args:
        output: OUTPUT.
        work: `run` or `retry`.
        others: The other drivers.
        joins: Whether there may be any.

    Raises:
        UserError: Another driver started at the same moment, and was the first.
        OSError: OUTPUT cannot be written to.
    """
    heartbeat = Heartbeat(output, work)
    try:
        heartbeat.start()
        epoch = begin_epoch(output, heartbeat.sign.token)
        own = heartbeat.sign.token
        if not joins:
            _check_first(epoch, own, others)
        yield Turn(epoch, heartbeat, others.at_work(own) if joins else ())
    finally:
        heartbeat.stop()


def _check_first(epoch: Epoch, own: str, others: Others) -> None:
    living = others.at_work(own, lambda: tokens_before(epoch))
    if living:
        epoch.give_back()
        raise UserError(_refusal(epoch.output, living))


def _refusal(output: Location, living: list[Sign]) -> str:
    return (
        f"OUTPUT {output}: another run is at work there: {living[0].name}; let it finish or end "
        "it, or give --join to work beside it"
    )


def _is_there(sign: Sign) -> bool | None:
    """Whether a driver lives; None if that cannot be seen from here."""
    here = _this_machine()
    is_here = Machine(host=sign.host, boot=sign.boot, namespace=sign.namespace) == here
    if not (is_here and here.boot and here.namespace and sign.started):
        return None
    if sign.pid == os.getpid():
        return sign.token in _OF_THIS_PROCESS
    return _start_of(sign.pid) == sign.started


def _this_machine() -> Machine:
    boot = namespace = ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = os.readlink("/proc/self/ns/pid")
    return Machine(host=socket.gethostname(), boot=boot, namespace=namespace)


def _start_of(pid: int) -> int | None:
    """When a process started, in ticks since the boot; None if there is none, or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, *fields = stat.rpartition(")")[2].split()  # its name may hold anything
    return None if state in "ZX" else int(fields[18])


def _parsed(body: bytes) -> Sign | None:
    """A heartbeat; None if it is damaged, or of a later version."""
    try:
        found = json.loads(body)
        return Sign(**{name: found[name] for name in Sign.__dataclass_fields__})
    except (ValueError, KeyError, TypeError):
        return None
