"""How engines are asked to take no more rows, and how a driver learns that they have none left.

It goes through Ray's key-value store (`ray.experimental.internal_kv`), which needs no process of
its own and no handles of actors, which Ray Data (2.60) does not give.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAMESPACE = b"gemma3-batch"
LOOK_SECONDS = 1.0
"""Time between two looks of an engine at whether it is asked."""
_ASKED = b"asked"
_ENGINES = b"engines/"


@dataclass(frozen=True)
class Drain:
    """One driver's wish, and the answers of its engines. It pickles."""

    token: str = field(default_factory=lambda: uuid.uuid4().hex)

    def ask(self) -> None:
        """Ask all engines to finish what they have, and to take no more."""
        from ray.experimental import internal_kv

        internal_kv._internal_kv_put(self._key(_ASKED), b"1", namespace=NAMESPACE)

    def is_asked(self) -> bool:
        """Whether this engine should take no more."""
        from ray.experimental import internal_kv

        return bool(internal_kv._internal_kv_exists(self._key(_ASKED), namespace=NAMESPACE))

    def report(self, engine: str, rows: int | None) -> None:
        """Tell the driver of an engine.

        Args:
            engine: The id of its actor.
            rows: Rows that it gave back since it was ready, now that it has none left; None while
                it works.
        """
        from ray.experimental import internal_kv

        key, value = self._key(_ENGINES + engine.encode()), b"" if rows is None else str(rows)
        internal_kv._internal_kv_put(key, value, namespace=NAMESPACE)

    def engines(self) -> list[int | None]:
        """What the engines that are or were ready have reported."""
        from ray.experimental import internal_kv

        keys = internal_kv._internal_kv_list(self._key(_ENGINES), namespace=NAMESPACE)
        values = [internal_kv._internal_kv_get(key, namespace=NAMESPACE) for key in keys]
        return [int(value) if value else None for value in values]

    def forget(self) -> None:
        """Remove all of it from Ray's store."""
        from ray.experimental import internal_kv

        internal_kv._internal_kv_del(self._key(b""), del_by_prefix=True, namespace=NAMESPACE)

    def _key(self, name: bytes) -> bytes:
        return f"drain/{self.token}/".encode() + name


class Intake:
    """Decides in an engine's actor whether a block of rows is worked on.

    Args:
        drain: Asks for an end of work; None if nobody will.
        on_close: Called once, when it is asked: rows that wait are not to be worked on.
    """

    def __init__(self, drain: Drain | None, on_close: Callable[[], None] = lambda: None) -> None:
        self._drain = drain
        self._on_close = on_close
        self._watch: asyncio.Task[None] | None = None
        self._is_closed = False
        self._blocks = self._given_back = 0

    def open(self) -> None:
        """The engine is ready."""
        if self._drain is not None:
            with contextlib.suppress(Exception):  # nothing to end an engine for
                self._drain.report(actor_id(), None)

    async def admits(self) -> bool:
        """Whether a block is worked on: not any more, once the run is about to end."""
        if self._drain is not None and self._watch is None:
            self._watch = asyncio.create_task(self._close_when_asked(self._drain))
        if self._is_closed:
            # Not longer: Ray Data may hold back other blocks until it has this one. Nor at once:
            # it would read the rest of the input for nothing.
            await asyncio.sleep(LOOK_SECONDS)
        return not self._is_closed

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Within the block, a block of rows is worked on."""
        self._blocks += 1
        try:
            yield
        finally:
            self._blocks -= 1

    def give_back(self, rows: int) -> None:
        """Count rows of a block that is worked on: they are answered, and left out otherwise."""
        self._given_back += rows

    async def _close_when_asked(self, drain: Drain) -> None:
        while not await asyncio.to_thread(_is_asked, drain):
            await asyncio.sleep(LOOK_SECONDS)
        self._is_closed = True
        self._on_close()
        while self._blocks:
            await asyncio.sleep(LOOK_SECONDS / 10)
        with contextlib.suppress(Exception):  # the driver waits no longer than `drain_seconds`
            await asyncio.to_thread(drain.report, actor_id(), self._given_back)


def _is_asked(drain: Drain) -> bool:
    """Whether it is; not, where Ray's store does not answer now."""
    try:
        return drain.is_asked()
    except Exception:  # Ray has errors of several kinds for it
        return False


def actor_id() -> str:
    """Of the actor that this process is."""
    import ray

    return str(ray.get_runtime_context().get_actor_id())


def is_restarted() -> bool:
    """Whether the actor that this process is took the place of one that died."""
    import ray

    try:
        return bool(ray.get_runtime_context().was_current_actor_reconstructed)
    except Exception:  # Ray's own record of its actors does not answer now
        return False
