"""Whatever stops a run is reported in a line, by what came first."""

from __future__ import annotations

import pytest

from pipeline.contract.errors import RunError, UserError
from pipeline.execution.root_cause import raising_root_cause

FROM_AN_ACTOR = """\x1b[36mray::Map(Render)()\x1b[39m (pid=7, ip=127.0.0.1)
  File "stages/render.py", line 7, in __call__
    raise {error}
{error}

The above exception was the direct cause of the following exception:

ray.exceptions.RayTaskError: it failed
"""


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError("no space\nleft"), "the run stopped: OSError: no space left"),
        (
            RuntimeError(FROM_AN_ACTOR.format(error="builtins.ValueError: no such thing")),
            "the run stopped: builtins.ValueError: no such thing",
        ),
        (
            RuntimeError(
                FROM_AN_ACTOR.format(error="pipeline.contract.errors.RunError: it is gone")
            ),
            "it is gone",
        ),
    ],
)
def test_a_foreign_error_becomes_one_line(error: Exception, message: str) -> None:
    with pytest.raises(RunError) as caught, raising_root_cause():
        raise error
    assert str(caught.value) == message
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [UserError("fix it"), RunError("it stopped"), SystemExit(3)])
def test_our_own_errors_and_interruptions_pass(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, raising_root_cause():
        raise error
    assert caught.value is error
