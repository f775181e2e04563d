"""What an actor holds: made once, or the reason kept for the first block."""

from __future__ import annotations

import pytest

from pipeline.contract.config import EngineConfig
from pipeline.contract.errors import Fault, UserError
from pipeline.engine.startup import attempt

CONFIG = EngineConfig(model="m")


def refuse(config: EngineConfig) -> None:
    raise RuntimeError(f"no memory for {config.model}")


def complain(_: EngineConfig) -> None:
    raise UserError("dtype: cannot be that")


def test_what_was_made_is_kept_or_the_reason_why_not() -> None:
    assert attempt(lambda config: config.model, CONFIG, "an engine") == "m"
    assert attempt(refuse, CONFIG, "an engine") == Fault(
        ends_run=True, message="an engine did not start: RuntimeError: no memory for m"
    )
    assert attempt(complain, CONFIG, "an engine") == Fault(
        ends_run=True, message="dtype: cannot be that", is_users=True
    )


@pytest.mark.usefixtures("ray_cluster")
def test_something_can_be_made_in_a_driver_of_ray() -> None:
    assert attempt(lambda config: config.model, CONFIG, "an engine") == "m"
