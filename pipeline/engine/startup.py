"""Starting what an actor holds, without the actor dying where that fails.

An actor whose constructor raises makes Ray print the traceback and try again (2.60). So the failure
is kept, and told with the first block that the actor is given.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeVar

import tenacity

from pipeline.contract.errors import Fault, UserError, one_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.contract.config import EngineConfig

T = TypeVar("T")

RESTART_TRIES = 3
RESTART_PAUSE_S = 15.0


def attempt(make: Callable[[EngineConfig], T], config: EngineConfig, what: str) -> T | Fault:
    """Make something, or say why it could not be made; `what` names it there.

    An actor that Ray started anew tries more than once: what its predecessor left behind (memory of
    a GPU, say) may take a moment to go.
    """
    tries = RESTART_TRIES if _is_restarted() else 1
    try:
        return tenacity.Retrying(
            stop=tenacity.stop_after_attempt(tries),
            wait=tenacity.wait_fixed(RESTART_PAUSE_S),
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
    # Outside an actor (in a driver, say) `was_current_actor_reconstructed` is an AssertionError.
    return bool(context.get_actor_id() and context.was_current_actor_reconstructed)
