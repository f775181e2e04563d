"""What a run has in place of an engine and a renderer: connections to the actors of `warm_hosts`.

Decides which actor gets a request, and what happens when one dies: it gets no requests until what
it holds is loaded again. A failure comes as a value, and is raised here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.contract.errors import Fault, RowError, one_line
from pipeline.contract.record import Outcome
from pipeline.engine.interface import EngineDiedError, EngineStats
from pipeline.engine.orphans import end_process

if TYPE_CHECKING:
    from PIL.Image import Image

    from pipeline.contract.config import EngineConfig
    from pipeline.contract.task import Generation, Request
    from pipeline.engine.interface import Rendered

T = TypeVar("T")

LOOK_SECONDS = 0.5
"""Time between two looks at an actor that Ray starts anew."""
RESTART_SECONDS = 1800.0
"""Time for an engine to come back, its model's start included."""
RENDERER_RESTART_SECONDS = 300.0


@dataclass
class EngineConnection:
    """An `InferenceEngine` that sends each request to the host with the fewest in flight.

    A host that died gets no requests until its engine is loaded again.

    Attributes:
        hosts: Handles of `EngineHost` actors.
        model_class: See `InferenceEngine.model_class`; empty before the first request.
    """

    hosts: Sequence[Any]
    model_class: str = ""
    _in_flight: Counter[int] = field(default_factory=Counter)
    _ready: set[int] = field(default_factory=set)
    _returns: dict[int, asyncio.Task[Fault | None]] = field(default_factory=dict)

    async def generate(self, rendered: Rendered, key: str) -> Generation:
        """See `InferenceEngine.generate`.

        Raises:
            RowError: This request failed.
            EngineDiedError: The host died while it worked on this; or no host comes back.
        """
        import ray
        from ray.exceptions import RayError, RayTaskError

        number = await self._choose()
        self._in_flight[number] += 1
        host = self.hosts[number]
        try:
            reference = host.generate.remote(rendered, key)
            answer: Generation | RowError | EngineDiedError | Fault = await reference
            if isinstance(answer, EngineDiedError):
                self._lose(number)
                raise answer
            self.model_class = self.model_class or await host.model_class.remote()
        except RayTaskError as error:  # the host lives, and could not read the request
            raise RowError(Outcome.ENGINE_ERROR, "generate", one_line(error.cause)) from error
        except RayError as error:
            self._lose(number)
            raise EngineDiedError(f"the engine died: {one_line(error)}") from error
        except asyncio.CancelledError:  # Ray would let the host go on
            ray.cancel(reference)
            raise
        finally:
            self._in_flight[number] -= 1
        if isinstance(answer, Fault):
            raise EngineDiedError(answer.message, answer)
        return _or_raise(answer)

    async def _choose(self) -> int:
        """A host that is ready; waits until one is."""
        if not self._returns:
            for number in range(len(self.hosts)):
                self._lose(number)
        while not self._ready:
            waits = [wait for wait in self._returns.values() if not wait.done()]
            if not waits:
                faults = [wait.result() for wait in self._returns.values()]
                raise EngineDiedError("no engine came back", next(filter(None, faults), None))
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        return min(self._ready, key=lambda number: self._in_flight[number])

    def _lose(self, number: int) -> None:
        """Send nothing to a host until it is ready, which is not known of a new one either."""
        self._ready.discard(number)
        if number not in self._returns or self._returns[number].done():
            self._returns[number] = asyncio.create_task(self._return(number))

    async def _return(self, number: int) -> Fault | None:
        """Wait until a host's engine is loaded; returns why that will not be."""
        from ray.exceptions import RayError

        give_up = time.monotonic() + RESTART_SECONDS
        while True:
            try:
                fault: Fault | None = await self.hosts[number].fault.remote()
            except RayError as error:
                if time.monotonic() >= give_up:
                    message = f"the engine did not come back: {one_line(error)}"
                    return Fault(ends_run=True, message=message)
                await asyncio.sleep(LOOK_SECONDS)
                continue
            if fault is None:
                self._ready.add(number)
            return fault

    def stats(self) -> EngineStats:
        """Nothing: other runs may use the hosts too."""
        return EngineStats()

    def close(self) -> None:
        """Leaves the hosts running."""


class RendererConnection:
    """A `Renderer` that sends requests to its hosts in turn.

    A renderer whose host dies ends its own process, as if it had died itself: the rows of the block
    are tried again, and the one that is the cause is found as in any other run.

    Args:
        hosts: Handles of `RendererHost` actors.
        max_model_len: See `Renderer.max_model_len`.
    """

    def __init__(self, hosts: Sequence[Any], max_model_len: int) -> None:
        self.max_model_len = max_model_len
        self._hosts = hosts
        self._turn = 0
        self._seen_alive: set[int] = set()

    def render(self, request: Request, images: Sequence[Image]) -> Rendered:
        """See `Renderer.render`.

        Raises:
            RowError: This request cannot be rendered.
        """
        answer: Rendered | RowError = self._call("render", request, images)
        return _or_raise(answer)

    def count(self, text: str) -> int:
        """See `Renderer.count`.

        Raises:
            RowError: It cannot be counted.
        """
        answer: int | RowError = self._call("count", text)
        return _or_raise(answer)

    def _call(self, method: str, *arguments: object) -> Any:
        import ray
        from ray.exceptions import RayActorError

        try:
            return ray.get(getattr(self._next(), method).remote(*arguments))
        except (RayActorError, TimeoutError) as error:
            logging.getLogger(__name__).error("%s; this process ends", one_line(error))
            end_process()

    def _next(self) -> Any:
        """The next host; one that was not used yet only if it is alive. Waits until one is."""
        give_up = time.monotonic() + RENDERER_RESTART_SECONDS
        while time.monotonic() < give_up:
            self._turn = (self._turn + 1) % len(self._hosts)
            host = self._hosts[self._turn]
            if self._turn in self._seen_alive or _is_ready(host):
                self._seen_alive.add(self._turn)
                return host
            time.sleep(LOOK_SECONDS)
        raise TimeoutError("no renderer came back")


def _is_ready(host: Any) -> bool:
    """Whether a host is alive and holds what it should."""
    import ray
    from ray.exceptions import RayActorError

    try:
        return ray.get(host.fault.remote()) is None
    except RayActorError:
        return False


def connect_engine(hosts: Sequence[Any], _: EngineConfig) -> EngineConnection:
    """A run's engine; `functools.partial` binds the hosts."""
    return EngineConnection(hosts)


def connect_renderer(hosts: Sequence[Any], config: EngineConfig) -> RendererConnection:
    """A run's renderer; `functools.partial` binds the hosts."""
    return RendererConnection(hosts, config.max_model_len)


def _or_raise(answer: T | RowError) -> T:
    if isinstance(answer, RowError):
        raise answer
    return answer
