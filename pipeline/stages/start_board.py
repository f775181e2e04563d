"""How engines tell the driver which step of their start they are in.

Through Ray's key-value store, like `drain`: an actor that starts can answer nothing else.
"""

from __future__ import annotations

import contextlib
import uuid
from dataclasses import dataclass, field

NAMESPACE = b"gemma3-batch"
READY = "ready"
"""The step after the last one."""


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

    def steps(self) -> list[str]:
        """The step of each engine that has told one."""
        from ray.experimental import internal_kv

        keys = internal_kv._internal_kv_list(self._key(""), namespace=NAMESPACE)
        values = [internal_kv._internal_kv_get(key, namespace=NAMESPACE) for key in keys]
        return [value.decode() for value in values if value]

    def forget(self) -> None:
        """Remove all of it from Ray's store."""
        from ray.experimental import internal_kv

        with contextlib.suppress(Exception):  # Ray may be gone too
            internal_kv._internal_kv_del(self._key(""), del_by_prefix=True, namespace=NAMESPACE)

    def _key(self, engine: str) -> bytes:
        return f"start/{self.token}/{engine}".encode()
