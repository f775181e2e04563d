"""Makes the function of a job: name, signature and docstring come from the job's options."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Protocol

from jobs.options.common import ordered_fields
from jobs.options.job import job_of
from jobs.registry import find_job
from jobs.sdk.calls import call

if TYPE_CHECKING:
    from rich.console import Console

    from jobs.options.job import Job
    from jobs.sdk.engine import Engine
    from pipeline import JsonLog

ARGUMENTS = {
    "input": (
        "A path or URI of parquet, images, JSON lines, CSV or tar shards; a pandas or Arrow table, "
        "a Hugging Face or Ray dataset; a list of dicts, or of values for the job's first column."
    ),
    "output": "Folder for the output files: a path, `s3://` or `gs://`. Required for files.",
    "engine": "A warm engine to run on, instead of `model` and the engine's options.",
    "console": "Where progress is shown: a `rich` console or a `JsonLog`; None shows none.",
    "debug": "Show what Ray and the workers print.",
}
"""The arguments of every job's function besides the job's options."""
RETURNS = """\
Returns:
    For files a `RunResult`; for data in memory the same kind, in order, with the new columns.

Raises:
    UserError: The input, the output, the model or an option must be fixed.
    ErrorRateError: More rows failed than `max_error_rate` allows, or the first few hundred all
        failed for one reason.
    RunError: The run could not be finished; the same call continues it."""


class JobFunction(Protocol):
    """The function of a job; `help` and its signature list its options."""

    def __call__(
        self,
        input: Any,  # noqa: A002  the same names as on the command line
        output: str | None = None,
        *,
        engine: Engine | None = None,
        console: Console | JsonLog | None = None,
        debug: bool = False,
        **options: Any,
    ) -> Any:
        """Run the job."""
        ...


def function_of(job: object) -> JobFunction:
    """Make the function of a job.

    Args:
        job: The name of a job, a `jobs.Job`, a task class or a task.

    Raises:
        UserError: There is no such job, or it is none of these.
    """
    found = find_job(job) if isinstance(job, str) else job_of(job)

    def function(
        input: Any,  # noqa: A002
        output: str | None = None,
        *,
        engine: Engine | None = None,
        console: Console | JsonLog | None = None,
        debug: bool = False,
        **options: Any,
    ) -> Any:
        return call(found, options, input, output, engine=engine, console=console, debug=debug)

    name = found.name.replace("-", "_")
    function.__name__ = function.__qualname__ = name
    function.__doc__ = documentation(found)
    function.__signature__ = _signature(found, inspect.signature(function))  # type: ignore[attr-defined]
    return function


def documentation(job: Job[Any]) -> str:
    """The docstring of a job's function."""
    own = {
        name: str(field.description or "") for name, field in ordered_fields(job.options).items()
    }
    arguments = "\n".join(f"    {name}: {text}" for name, text in {**ARGUMENTS, **own}.items())
    added = (
        f"Adds {job.columns or 'the columns of its result_schema'}; also `outcome`, `error`, "
        "`prompt_tokens`, `output_tokens`, and in files `row_key`. One output row for each input "
        "row, in input order; all these names begin with `prefix`, if it is given. The same call "
        "continues a run that was stopped."
    )
    return f"{job.help}\n\n{added}\n\nArgs:\n{arguments}\n\n{RETURNS}"


def _signature(job: Job[Any], plain: inspect.Signature) -> inspect.Signature:
    """The signature `plain` with a keyword for each option instead of `**options`."""
    fixed = [p for p in plain.parameters.values() if p.kind is not p.VAR_KEYWORD]
    options = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty
            if field.is_required()
            else field.get_default(call_default_factory=True),
            annotation=field.annotation,
        )
        for name, field in ordered_fields(job.options).items()
    ]
    return inspect.Signature([*fixed, *options], return_annotation=Any)
