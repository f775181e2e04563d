"""Starts what an actor holds, tells how far it is, and returns a failure as a value.

If an actor's constructor raises, Ray (2.60) prints the traceback and starts the actor again. So the
actor keeps the `Fault` instead, and returns it with the first block that it is given.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, TypeVar

import tenacity

from pipeline.contract.errors import Fault, UserError, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pipeline.contract.config import EngineConfig

T = TypeVar("T")

RESTART_TRIES = 3
RESTART_PAUSE_SECONDS = 15.0


_listeners: list[Callable[[str], None]] = []


def tell_step(step: str) -> None:
    """Called by an engine as a step of its start begins; see `EngineStats.start`."""
    for listener in _listeners:
        listener(step)


@contextlib.contextmanager
def following_steps(listener: Callable[[str], None]) -> Iterator[None]:
    """Call the listener with each step of the starts within."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def attempt(make: Callable[[EngineConfig], T], config: EngineConfig, what: str) -> T | Fault:
    """Make an engine or a renderer, or return why that failed.

    An actor that Ray restarted tries several times: it can take a moment until what its predecessor
    held, such as GPU memory, is free again.

    Args:
        make: Makes it from `config`. A `UserError` it raises is the user's to fix.
        config: The engine.
        what: Its name in the message, such as "the engine".
    """
    tries = RESTART_TRIES if _is_restarted() else 1
    try:
        return tenacity.Retrying(
            stop=tenacity.stop_after_attempt(tries),
            wait=tenacity.wait_fixed(RESTART_PAUSE_SECONDS),
            retry=tenacity.retry_if_not_exception_type(UserError),
            reraise=True,
        )(make, config)
    except UserError as error:
        return Fault(ends_run=True, message=str(error), is_users=True)
    except Exception as error:
        logging.getLogger(__name__).exception("%s did not start", what)
        return Fault(ends_run=True, message=f"{what} did not start: {one_line(error)}")


def _is_restarted() -> bool:
    import ray

    if not ray.is_initialized():
        return False
    context = ray.get_runtime_context()
    # Outside of an actor, as in a driver, `was_current_actor_reconstructed` raises AssertionError.
    return bool(context.get_actor_id() and context.was_current_actor_reconstructed)
