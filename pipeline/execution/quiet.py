"""What Ray may print during a run: nothing, as it would hide the run's progress and its errors.

All that is changed for that, in the process and in Ray Data's context, is as it was afterwards: the
process and the cluster may be somebody's notebook.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DATA_LOGGER = "ray.data"
RAY_LOGGER = "ray"
LEVEL_LINE = b"Set ray log level from environment variable RAY_BACKEND_LOG_LEVEL"
STDERR = 2
IN_THE_CONTEXT = {"enable_progress_bars": False, "print_on_execution_start": False}
"""Fields of Ray Data's `DataContext`."""


@contextlib.contextmanager
def quiet(*, debug: bool) -> Iterator[None]:
    """Within the block, Ray Data shows and logs nothing, unless `debug`."""
    if debug:
        yield
        return
    from ray.data import DataContext

    with (
        context_fields(DataContext.get_current(), IN_THE_CONTEXT),
        level(DATA_LOGGER, logging.CRITICAL),
        warnings.catch_warnings(),
    ):
        # Ray 2.60 deprecates the only way to set an actor's restarts, and warns about its own
        # settings.
        warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
        warnings.filterwarnings("ignore", module=r"ray\.data\.")
        yield


@contextlib.contextmanager
def ray_log_level(debug: bool) -> Iterator[None]:
    """Within the block, Ray itself logs errors only, unless `debug`."""
    with level(RAY_LOGGER, logging.INFO if debug else logging.ERROR):
        yield


@contextlib.contextmanager
def messages_in_a_file(debug: bool) -> Iterator[None]:
    """Within the block, Ray's messages to this process are in a file among Ray's logs.

    What Ray's core says of an actor that died comes to every driver (2.60), on its standard output,
    which a program may read. Nothing is kept where the logs are on another machine; with `debug`
    all of it is shown. Ray runs already.
    """
    if debug:
        yield
        return
    from ray._private import worker

    node = worker._global_node
    folder = None if node is None else node.get_logs_dir_path()
    path = os.path.join(folder, f"gemma3-batch-{os.getpid()}.log") if folder else os.devnull
    handler = logging.FileHandler(path, delay=True)

    def keep(message: Mapping[str, Any], **_: object) -> None:
        for line in message["lines"]:
            handler.emit(logging.LogRecord(RAY_LOGGER, logging.ERROR, "", 0, line, (), None))

    logger = logging.getLogger(RAY_LOGGER)
    ours = {"handlers": [handler], "propagate": False}
    with context_fields(logger, ours), context_fields(worker, {"print_to_stdstream": keep}):
        try:
            yield
        finally:
            handler.close()


@contextlib.contextmanager
def without_log_level_line(debug: bool) -> Iterator[None]:
    """Within the block, in which Ray is started, its core logs no warnings, unless `debug`.

    Ray's core (2.60) warns on stderr about every actor that may be restarted. What silences it
    makes it print a line itself, which is left out of what is written to stderr meanwhile.
    """
    if debug:
        yield
        return
    sys.stderr.flush()
    own = os.dup(STDERR)
    with tempfile.TemporaryFile() as written, environment({"RAY_BACKEND_LOG_LEVEL": "fatal"}):
        os.dup2(written.fileno(), STDERR)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(own, STDERR)
            os.close(own)
            written.seek(0)
            for line in written:
                if LEVEL_LINE not in line:
                    os.write(STDERR, line)


@contextlib.contextmanager
def environment(defaults: Mapping[str, str]) -> Iterator[None]:
    """Within the block, these environment variables have these values unless they have others."""
    unset = {name: value for name, value in defaults.items() if name not in os.environ}
    os.environ.update(unset)
    try:
        yield
    finally:
        for name in unset:
            os.environ.pop(name, None)


@contextlib.contextmanager
def removing_variables() -> Iterator[set[str]]:
    """Environment variables whose names the block adds to the set are removed after it."""
    names: set[str] = set()
    try:
        yield names
    finally:
        for name in names:
            os.environ.pop(name, None)


@contextlib.contextmanager
def noting_variables(names: set[str]) -> Iterator[None]:
    """Environment variables that are new after the block are added: Ray (2.60) sets some.

    Others that are set later are the caller's, in whose process an `Engine` may be for long.
    """
    before = {*os.environ}
    try:
        yield
    finally:
        names |= {*os.environ} - before


@contextlib.contextmanager
def level(logger: str, number: int) -> Iterator[None]:
    """Within the block, a logger has this level."""
    before = logging.getLogger(logger).level
    logging.getLogger(logger).setLevel(number)
    try:
        yield
    finally:
        logging.getLogger(logger).setLevel(before)


@contextlib.contextmanager
def context_fields(context: object, fields: Mapping[str, object]) -> Iterator[None]:
    """Within the block, these attributes of an object have these values."""
    before = {name: getattr(context, name) for name in fields}
    for name, value in fields.items():
        setattr(context, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)
