"""The command line: thin, one function for each command, nothing decided here but exit codes.

0  every row is accounted for, even if some failed
1  the run failed; the same command goes on with it
2  the configuration or the input must be fixed
3  more rows failed than `--max-error-rate` allows

Errors are one or two lines on stderr; a traceback only with `--debug`.
"""

from __future__ import annotations

import contextlib
import traceback
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from jobs.cli.demonstration import ROWS, demonstrate
from jobs.cli.flags import command_of
from jobs.cli.job_file import check_reachable, read_job_file
from jobs.cli.tables import calibration_table, export_errors, show_errors, status_text
from jobs.moderation.calibration import calibrate
from jobs.registry import find_job, job_names
from jobs.sdk.assembly import ConfiguredJob, configure
from jobs.sdk.calls import run_job
from jobs.sdk.retry import retry_rows
from pipeline import ErrorRateError, Outcome, RunError, RunResult, UserError, failed_rows, status
from pipeline.contract.config import describe_fault
from pipeline.contract.errors import one_line
from pipeline.contract.suggest import suggestion

if TYPE_CHECKING:
    from collections.abc import Iterator


RUN_FAILED = 1
USER_ERROR = 2
TOO_MANY_FAILED = 3
INTERRUPTED = 130


class JobsAndCommands(TyperGroup):
    """Every job is a command; one of another package is imported when it is asked for.

    A job that is called as a command of ours can be run from a job file only. Contexts and commands
    are Any: typer has a click of its own, which it does not show.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        """The jobs, then what can be done with them."""
        ours = super().list_commands(ctx)
        return [*(name for name in job_names() if name not in ours), *ours]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that the arguments begin with; a wrong name is told with the nearest."""
        if args and args[0] not in self.list_commands(ctx):
            near = suggestion(args[0], self.list_commands(ctx)).strip()
            ctx.fail(f"No such command '{args[0]}'. {near[:1].upper()}{near[1:]}".strip())
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: Any, name: str) -> Any:
        """The command of that name; None where there is none."""
        if name in self.commands or name not in job_names():
            return super().get_command(ctx, name)
        try:
            return job_command(name)
        except UserError as error:
            return _unusable(name, error)


app = typer.Typer(
    name="gemma3-batch",
    cls=JobsAndCommands,
    help="Caption, translate and moderate large datasets with Gemma 3 on Ray and vLLM.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_out = Console()
_err = Console(stderr=True)

Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks and the workers' output.")]


@app.callback()
def _commands() -> None:
    """Caption, translate and moderate large datasets with Gemma 3 on Ray and vLLM."""


def job_command(name: str) -> Any:
    """The command of a job. Raises UserError where it is another package's and cannot be loaded."""
    job = find_job(name)

    def run(source: str, output: str, given: dict[str, Any], debug: bool) -> None:
        with _faults_in_one_line(debug=debug):
            _run_and_tell(configure(job, given), source, output, debug)

    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    alone.command(name=name, help=escape(job.help))(command_of(job.options, run))
    return typer.main.get_command(alone)


def _unusable(name: str, error: UserError) -> Any:
    """A command that says why it cannot be loaded; the other commands are not disturbed."""
    alone = typer.Typer(add_completion=False)
    any_arguments = {"allow_extra_args": True, "ignore_unknown_options": True}

    @alone.command(
        name=name, help=escape(f"Cannot be loaded: {error}"), context_settings=any_arguments
    )
    def _() -> None:
        with _faults_in_one_line(debug=False):
            raise error

    return typer.main.get_command(alone)


def _run_and_tell(job: ConfiguredJob, source: str, output: str, debug: bool) -> None:
    result = run_job(job, source, output, console=_err, debug=debug)
    _out.print(_summary(result), highlight=False, soft_wrap=True, markup=False)


@app.command(name="run")
def run_command(
    job_file: Annotated[
        str, typer.Argument(metavar="JOB.yaml", help="A job's input, output and options.")
    ],
    debug: Debug = False,
) -> None:
    """Run a job from a file; what `ray job submit` and schedulers call."""
    with _faults_in_one_line(debug=debug):
        job = read_job_file(job_file)
        try:
            check_reachable(job)
            _run_and_tell(job.job, job.input, job.output, debug)
        except ValidationError as error:
            raise job.located(UserError(describe_fault(error))) from error
        except UserError as error:
            raise job.located(error) from error


@app.command(name="status")
def status_command(
    output: Annotated[str, typer.Argument(metavar="OUTPUT", help="Folder of a run.")],
    debug: Debug = False,
) -> None:
    """Show how far a run is, whether or not it is running."""
    with _faults_in_one_line(debug=debug):
        _out.print(status_text(status(output)), highlight=False, soft_wrap=True, markup=False)


@app.command(name="errors")
def errors_command(
    output: Annotated[str, typer.Argument(metavar="OUTPUT", help="Folder of a run.")],
    outcome: Annotated[
        list[str] | None, typer.Option(help="Only these; by default all without results.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows to show.")] = 20,
    export: Annotated[
        str | None, typer.Option(help="Write all of them to this parquet file instead.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Show the rows that failed, or write them to a parquet file."""
    with _faults_in_one_line(debug=debug):
        unknown = next((name for name in outcome or () if name not in [*Outcome]), None)
        if unknown is not None:
            raise UserError(f"outcome '{unknown}': should be one of {', '.join(Outcome)}")
        tables = failed_rows(output, outcome or ())
        if export is None:
            show_errors(tables, limit, _out)
        else:
            rows = export_errors(tables, export)
            _out.print(
                f"{rows:,} rows written to {export}", highlight=False, soft_wrap=True, markup=False
            )


@app.command(name="retry")
def retry_command(
    output: Annotated[str, typer.Argument(metavar="OUTPUT", help="Folder of a run.")],
    outcome: Annotated[list[str], typer.Option(help="Do rows with this outcome again.")],
    model: Annotated[
        str | None, typer.Option(help="Folder of the model, where it has moved.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Do failed rows again and put what comes of them in their place."""
    with _faults_in_one_line(debug=debug):
        result = retry_rows(output, outcome, model=model, console=_err, debug=debug)
        _out.print(_summary(result), highlight=False, soft_wrap=True, markup=False)


@app.command(name="calibrate")
def calibrate_command(
    output: Annotated[str, typer.Argument(metavar="OUTPUT", help="Folder of a moderation.")],
    policy: Annotated[str, typer.Option(help="Name of the policy.")],
    labels: Annotated[
        str, typer.Option(help="Column with the truth: true/false, 1/0, yes/no or lists of names.")
    ],
    precision: Annotated[
        float | None, typer.Option(help="Find the lowest threshold that reaches this precision.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Compare a policy's probabilities with labels, and find a threshold."""
    with _faults_in_one_line(debug=debug):
        found = calibrate(output, policy, labels=labels, precision=precision)
        _out.print(calibration_table(found))


@app.command(name="demo")
def demo_command(
    output: Annotated[
        str | None,
        typer.Argument(metavar="[OUTPUT]", help="New folder; by default a fresh one here."),
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Drawings to caption.")] = ROWS,
    debug: Debug = False,
) -> None:
    """Caption drawings with the bundled model and show what comes out."""
    with _faults_in_one_line(debug=debug):
        demonstrate(output, rows=rows, console=_out, debug=debug)


@app.command(name="bench")
def bench_command(
    model: Annotated[str, typer.Option(help="Folder of a Gemma 3 checkpoint, or 'demo'.")] = "demo",
    rows: Annotated[int, typer.Option(min=1, help="Drawings to caption.")] = ROWS,
    debug: Debug = False,
) -> None:
    """Measure rendering, generation and the whole job on this machine."""
    from jobs.cli.bench import bench

    with _faults_in_one_line(debug=debug):
        bench(model=model, rows=rows, console=_out)


def main() -> None:
    """Entry point of the console script."""
    app()


def _summary(result: RunResult) -> str:
    counts = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(result.outcomes.items()))
    rate = f", {result.rows_per_second:.1f} rows/s after the engine's start"
    same = f", {result.duplicates:,} of them like another one" if result.duplicates else ""
    return (
        f"{result.rows:,} rows ({counts}){same}; {result.new_rows:,} of them new, in "
        f"{result.seconds:.0f} s{rate if result.new_rows else ''}\n"
        f"Model class: {result.model_class}\n"
        f"Output: {result.output}"
    )


@contextlib.contextmanager
def _faults_in_one_line(*, debug: bool) -> Iterator[None]:
    try:
        yield
    except ValidationError as error:
        code, text = USER_ERROR, describe_fault(error)
    except UserError as error:
        code, text = USER_ERROR, str(error)
    except ErrorRateError as error:
        code, text = TOO_MANY_FAILED, str(error)
    except RunError as error:
        code, text = RUN_FAILED, f"{error}\nRun again with --debug to see more."
    except KeyboardInterrupt:
        code, text = INTERRUPTED, "interrupted; the same command goes on where it stopped"
    except Exception as error:  # whatever it is, it is told in one line
        code, text = RUN_FAILED, f"{one_line(error)}\nRun again with --debug to see more."
    else:
        return
    if debug:
        traceback.print_exc()
    _err.print(f"gemma3-batch: {text}", highlight=False, soft_wrap=True, markup=False)
    raise typer.Exit(code)
