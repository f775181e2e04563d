"""Whatever stops a run is reported in a line, by what came first."""

from __future__ import annotations

import pytest

from pipeline.contract.errors import RunError, UserError
from pipeline.execution.root_cause import cause_of, raising_root_cause

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


IN_ITS_CREATION = """The actor died because of an error raised in its creation task, \
\x1b[36mray::MapWorker(MapBatches(Render)).__init__()\x1b[39m (pid=7, ip=127.0.0.1)
    self._init_udf_with_retries(ctx)
  File "task.py", line 9, in __init__
    import gone
ModuleNotFoundError: No module named 'gone'"""
OF_A_NODE = """The actor died unexpectedly before finishing this task.
\tclass_name: MapWorker
\tactor_id: 56e8
The actor died because its node has died."""


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (IN_ITS_CREATION, "ModuleNotFoundError: No module named 'gone'"),
        (OF_A_NODE, "The actor died because its node has died."),
        ("The node is gone.", "The node is gone."),
        ("No s3://key:secret@b/x?sig=1.", "No s3://b/x."),
        ("", "RuntimeError"),
    ],
)
def test_what_came_first_is_found_in_the_text_of_ray(text: str, cause: str) -> None:
    assert cause_of(RuntimeError(text)) == cause
