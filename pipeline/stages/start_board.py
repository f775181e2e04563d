"""How engines tell the driver where they log, how far their start is, and later what keeps them.

Through Ray's key-value store, like `drain`: an actor that starts can answer nothing else.
"""

from __future__ import annotations

import contextlib
import os
import socket
import uuid
from dataclasses import dataclass, field

NAMESPACE = b"gemma3-batch"
READY = "ready"
"""The step after the last one."""
STEP, NOTE, LOG = "start", "note", "log"
STDERR = 2


@dataclass(frozen=True)
class StartBoard:
    """The engines of one driver's stages. It pickles."""

    token: str = field(default_factory=lambda: uuid.uuid4().hex)

    def tell(self, engine: str, step: str) -> None:
        """Tell that an engine begins a step; not, where Ray's store does not answer now.

        Args:
            engine: The id of its actor.
            step: See `EngineStats.start`; or `READY`.
        """
        from ray.experimental import internal_kv

        with contextlib.suppress(Exception):  # it is only shown
            internal_kv._internal_kv_put(self._key(engine), step.encode(), namespace=NAMESPACE)

    def note(self, engine: str, note: str) -> None:
        """Tell what keeps an engine that is ready.

        Args:
            engine: The id of its actor.
            note: See `EngineStats.note`; empty takes it back.
        """
        from ray.experimental import internal_kv

        key = self._key(engine, NOTE)
        with contextlib.suppress(Exception):  # it is only shown
            if note:
                internal_kv._internal_kv_put(key, note.encode(), namespace=NAMESPACE)
            else:
                internal_kv._internal_kv_del(key, namespace=NAMESPACE)

    def log(self, engine: str) -> None:
        """Tell where what this process and its engine print is found, if that is a file.

        Args:
            engine: The id of its actor.
        """
        from ray.experimental import internal_kv

        with contextlib.suppress(Exception):  # it only helps to find out more
            path = os.readlink(f"/proc/self/fd/{STDERR}")
            if os.path.isfile(path):
                value = f"{socket.gethostname()}:{path}".encode()
                internal_kv._internal_kv_put(self._key(engine, LOG), value, namespace=NAMESPACE)

    def logs(self) -> list[str]:
        """Where the engines log: a path, or `HOST:PATH` on another machine than this."""
        here = f"{socket.gethostname()}:"
        return sorted(place.removeprefix(here) for place in self._told(LOG))

    def steps(self) -> list[str]:
        """The step of each engine that has told one."""
        return self._told(STEP)

    def notes(self) -> list[str]:
        """What keeps the engines, of each that something keeps."""
        return self._told(NOTE)

    def _told(self, what: str) -> list[str]:
        from ray.experimental import internal_kv

        keys = internal_kv._internal_kv_list(self._key("", what), namespace=NAMESPACE)
        values = [internal_kv._internal_kv_get(key, namespace=NAMESPACE) for key in keys]
        return [value.decode() for value in values if value]

    def forget(self) -> None:
        """Remove all of it from Ray's store."""
        from ray.experimental import internal_kv

        with contextlib.suppress(Exception):  # Ray may be gone too
            for what in (STEP, NOTE, LOG):
                key = self._key("", what)
                internal_kv._internal_kv_del(key, del_by_prefix=True, namespace=NAMESPACE)

    def _key(self, engine: str, what: str = STEP) -> bytes:
        return f"{what}/{self.token}/{engine}".encode()
