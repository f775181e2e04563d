"""The commands: one function each, and their exit codes, which `help.EXIT_CODES` lists.

Errors are one or two lines on stderr, with a traceback only with `--debug`.
"""

from __future__ import annotations

import contextlib
import json
import sys
import traceback
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console

from jobs.cli.demonstration import ROWS, demonstrate
from jobs.cli.flags import Debug, command_of
from jobs.cli.help import CONTEXT, EXIT_CODES, PlainCommand, PlainGroup, fault_of
from jobs.cli.job_file import check_reachable, read_job_file
from jobs.cli.profile_tables import profile_text
from jobs.cli.tables import (
    calibration_table,
    export_errors,
    read_failed_rows,
    show_errors,
    skipped_lines,
    status_text,
)
from jobs.moderation.calibration import calibrate
from jobs.options.check import check_storage_options
from jobs.options.common import JobOptions
from jobs.registry import find_job, job_names
from jobs.sdk.assembly import ConfiguredJob, configure
from jobs.sdk.calls import run_job
from jobs.sdk.retry import retry_rows
from pipeline import ErrorRateError, RunError, RunResult, UserError, status
from pipeline.contract.config import describe_fault
from pipeline.contract.errors import one_line, shortened
from pipeline.contract.record import Outcome
from pipeline.contract.suggest import suggestion
from pipeline.output.hub.push import Pushed, push
from pipeline.output.status import added_prefix
from pipeline.storage.access import access_fault

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


RUN_FAILED = 1
USER_ERROR = 2
TOO_MANY_FAILED = 3
INTERRUPTED = 130


class JobsAndCommands(PlainGroup):
    """Every job is a command. One of another package is imported only when it is used.

    A job of another package that has the name of one of these commands can only be run from a job
    file. Contexts and commands have the type Any, since typer does not export its own copy of
    click.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of the jobs, then of the other commands."""
        ours = super().list_commands(ctx)
        return [*(name for name in job_names() if name not in ours), *ours]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that the arguments begin with; the message for a wrong name suggests one."""
        if args and args[0] not in self.list_commands(ctx):
            near = suggestion(args[0], self.list_commands(ctx)).strip(" ?")
            ctx.fail(f"no such command '{args[0]}'{near and f', {near}'}")
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: Any, name: str) -> Any:
        """The command of that name, or None."""
        if name in self.commands or name not in job_names():
            return super().get_command(ctx, name)
        try:
            return job_command(name)
        except UserError as error:
            return _failing_command(name, error)

    def main(self, *args: Any, standalone_mode: bool = True, **settings: Any) -> Any:
        """Run a command line; a wrong one is reported in one line."""
        run: Any = super().main
        if not standalone_mode:
            return run(*args, **settings, standalone_mode=False)
        try:
            code = run(*args, **settings, standalone_mode=False)
        except typer.TyperException as error:
            code = USER_ERROR
            _print(f"gemma3-batch: {fault_of(error)}", _err)
        sys.exit(code)


PLAIN: Any = {
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "rich_markup_mode": None,
    "context_settings": CONTEXT,
}
COMMAND: Any = {"cls": PlainCommand, "context_settings": CONTEXT}
RUN: Any = {**COMMAND, "epilog": EXIT_CODES}
app = typer.Typer(
    name="gemma3-batch",
    cls=JobsAndCommands,
    help="Caption, translate and moderate large datasets with Gemma 3 on Ray and vLLM.",
    epilog=EXIT_CODES,
    **PLAIN,
)
_out = Console()
_err = Console(stderr=True)

OutputOfRun = Annotated[str, typer.Argument(metavar="OUTPUT", help="Folder of a run.")]
StorageOptions = Annotated[
    str | None, typer.Option(help=JobOptions.model_fields["storage_options"].description)
]


@app.callback(invoke_without_command=True)
def _commands(context: typer.Context) -> None:
    """Caption, translate and moderate large datasets with Gemma 3 on Ray and vLLM."""
    if context.invoked_subcommand is None:
        _print(context.get_help().rstrip())


def job_command(name: str) -> Any:
    """Make the command of a job.

    Raises:
        UserError: The job is another package's and cannot be loaded.
    """
    job = find_job(name)

    def run(source: str, output: str, given: dict[str, Any], debug: bool) -> None:
        with _exit_codes(debug=debug):
            _run(configure(job, given), source, output, debug)

    alone = typer.Typer(**PLAIN)
    alone.command(name=name, help=job.help, **RUN)(command_of(job.options, run))
    return typer.main.get_command(alone)


def _failing_command(name: str, error: UserError) -> Any:
    """A command that reports why it cannot be loaded, so that `--help` and the others work."""
    alone = typer.Typer(**PLAIN)
    any_arguments = {"allow_extra_args": True, "ignore_unknown_options": True}

    @alone.command(name=name, help=f"Cannot be loaded: {error}", context_settings=any_arguments)
    def _() -> None:
        with _exit_codes(debug=False):
            raise error

    return typer.main.get_command(alone)


def _run(job: ConfiguredJob, source: str, output: str, debug: bool) -> None:
    result = run_job(job, source, output, console=_err, debug=debug)
    _print(_summary(result))
    if job.options.max_error_rate != 1:
        _check_results(result)


def _check_results(result: RunResult) -> None:
    """Check that some row has results.

    Raises:
        ErrorRateError: None has.
    """
    computed = {o: n for o, n in result.outcomes.items() if o != Outcome.KEPT}
    if computed and not any(Outcome(outcome).has_results for outcome in computed):
        raise ErrorRateError(
            f"all {sum(computed.values()):,} rows failed, none has results; `gemma3-batch errors "
            f"{result.output}` shows why\nOnce that is mended, `gemma3-batch retry` does them "
            "again."
        )


def _print(text: str, console: Console = _out) -> None:
    """Print text as it is: not wrapped, coloured or read as markup."""
    console.print(text, highlight=False, soft_wrap=True, markup=False)


@app.command(name="run", **RUN)
def run_command(
    job_file: Annotated[
        str, typer.Argument(metavar="JOB.yaml", help="A job's input, output and options.")
    ],
    debug: Debug = False,
) -> None:
    """Run a job from a file, as `ray job submit` and schedulers do."""
    with _exit_codes(debug=debug):
        job = read_job_file(job_file)
        with job.naming_lines():
            check_reachable(job)
            _run(job.job, job.input, job.output, debug)


@app.command(name="status", **COMMAND)
def status_command(
    output: OutputOfRun,
    profile: Annotated[
        bool, typer.Option("--profile", help="Show also where its time goes, and what bounds it.")
    ] = False,
    storage_options: StorageOptions = None,
    debug: Debug = False,
) -> None:
    """Show how far a run is, whether or not it is running."""
    with _exit_codes(debug=debug):
        found = status(output, check_storage_options(storage_options))
        _print(status_text(found))
        if profile:
            _out.print(profile_text(found.profile), highlight=False)


@app.command(name="errors", **COMMAND)
def errors_command(
    output: OutputOfRun,
    outcome: Annotated[
        list[str] | None,
        typer.Option(
            metavar="<outcome>", help="Only this outcome; by default all without results."
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="<int>", help="Rows to show.")] = 20,
    export: Annotated[
        str | None, typer.Option(help="Write all of them to this parquet file instead.")
    ] = None,
    storage_options: StorageOptions = None,
    debug: Debug = False,
) -> None:
    """Show the rows that failed, or write them to a parquet file."""
    with _exit_codes(debug=debug):
        options = check_storage_options(storage_options)
        tables = read_failed_rows(output, outcome or (), options)
        if export is None:
            show_errors(tables, limit, _out, added_prefix(output, options))
        else:
            _print(f"{export_errors(tables, export, options):,} rows written to {export}")


@app.command(name="retry", **RUN)
def retry_command(
    output: OutputOfRun,
    outcome: Annotated[
        list[str],
        typer.Option(metavar="<outcome>", help="Compute rows with this outcome again."),
    ],
    model: Annotated[str | None, typer.Option(help="Folder of the model, if it has moved.")] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="Address of the server that answers, if it has moved.")
    ] = None,
    storage_options: StorageOptions = None,
    join: Annotated[
        bool, typer.Option("--join", help="Work beside another run into the same OUTPUT.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Compute failed rows again and replace them in OUTPUT."""
    with _exit_codes(debug=debug):
        done = retry_rows(
            output,
            outcome,
            model=model,
            endpoint=endpoint,
            join=join,
            storage_options=check_storage_options(storage_options),
            console=_err,
            debug=debug,
        )
        _print(_summary(done))
        _check_results(done)


@app.command(name="calibrate", **COMMAND)
def calibrate_command(
    output: Annotated[str, typer.Argument(metavar="OUTPUT", help="Folder of a moderation.")],
    policy: Annotated[str, typer.Option(help="Name of the policy.")],
    labels: Annotated[
        str, typer.Option(help="Column of labels: true/false, 1/0, yes/no or lists of names.")
    ],
    precision: Annotated[
        float | None, typer.Option(help="Find the lowest threshold that reaches this precision.")
    ] = None,
    storage_options: StorageOptions = None,
    debug: Debug = False,
) -> None:
    """Compare a policy's probabilities with labels, and find a threshold."""
    with _exit_codes(debug=debug):
        found = calibrate(
            output,
            policy,
            labels=labels,
            precision=precision,
            storage_options=check_storage_options(storage_options),
        )
        _out.print(calibration_table(found))


@app.command(name="push", **COMMAND)
def push_command(
    output: OutputOfRun,
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET", help="hf://datasets/owner/name, or with @branch; made if missing."
        ),
    ],
    private: Annotated[bool, typer.Option("--private", help="Make the dataset private.")] = False,
    partial: Annotated[
        bool, typer.Option("--partial", help="Upload what there is of an unfinished run.")
    ] = False,
    storage_options: StorageOptions = None,
    debug: Debug = False,
) -> None:
    """Upload the output files to the Hugging Face Hub, with a dataset card. Needs HF_TOKEN."""
    with _exit_codes(debug=debug):
        done = push(
            output,
            target,
            private=private,
            partial=partial,
            storage_options=check_storage_options(storage_options),
            say=lambda text: _print(text, _err),
        )
        _print(_push_summary(done))


@app.command(name="demo", **COMMAND)
def demo_command(
    output: Annotated[
        str | None,
        typer.Argument(metavar="OUTPUT", help="New folder; by default one in this folder."),
    ] = None,
    rows: Annotated[int, typer.Option(min=1, metavar="<int>", help="Drawings to caption.")] = ROWS,
    debug: Debug = False,
) -> None:
    """Caption drawings with the bundled model and show the captions."""
    with _exit_codes(debug=debug):
        demonstrate(output, rows=rows, console=_out, debug=debug)


@app.command(name="bench", **COMMAND)
def bench_command(
    model: Annotated[str, typer.Option(help="Folder of a Gemma 3 checkpoint, or 'demo'.")] = "demo",
    job: Annotated[
        str, typer.Option(help="caption, translate, moderate, or your own (package.module:Name).")
    ] = "caption",
    rows: Annotated[int, typer.Option(min=1, metavar="<int>", help="Rows to do.")] = ROWS,
    input_tokens: Annotated[
        int | None,
        typer.Option(min=1, metavar="<int>", help="Tokens of a text; by default one sentence."),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="An option of the job; may be given repeatedly."),
    ] = None,
    repeats: Annotated[
        int, typer.Option(min=1, metavar="<int>", help="How often all is measured.")
    ] = 1,
    compare: Annotated[
        bool, typer.Option("--compare", help="Measure vLLM's own LLM.generate too.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, not a table.")] = False,
    debug: Debug = False,
) -> None:
    """Measure a job on this machine, beside its engine alone."""
    from jobs.cli.bench.measure import bench

    with _exit_codes(debug=debug):
        report = bench(
            job=job,
            options={**_named_values(option or ()), "model": model},
            rows=rows,
            input_tokens=input_tokens,
            repeats=repeats,
            compare=compare,
            console=_err,
        )
        if as_json:
            _print(json.dumps(report.to_json()))
        else:
            _out.print(report.table())
            _out.print(profile_text(report.profile), highlight=False)


def _named_values(given: Iterable[str]) -> dict[str, str]:
    """`NAME=VALUE` by name. Raises UserError."""
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"option: '{text}' should be NAME=VALUE")
        found[name.strip().replace("-", "_")] = value
    return found


def main() -> None:
    """Entry point of the console script."""
    app()


def _push_summary(done: Pushed) -> str:
    same = done.parts - done.uploaded
    gone = f", {done.removed:,} removed" if done.removed else ""
    lines = [
        f"{done.parts:,} parts: {done.uploaded:,} uploaded, {same:,} were there{gone}; "
        f"{done.commits:,} commit(s)",
        *(["Its README.md is its own and was left as it is."] if done.keeps_card else []),
        f"Dataset: {done.url}",
    ]
    return "\n".join(lines)


def _summary(result: RunResult) -> str:
    counts = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(result.outcomes.items()))
    rate = f", {result.rows_per_second:.1f} rows/s after the engine's start"
    same = f", {result.duplicates:,} of them identical to another" if result.duplicates else ""
    gone = shortened(result.left_out)
    lines = [
        f"{result.rows:,} rows ({counts}){same}; {result.new_rows:,} of them new, in "
        f"{result.seconds:.0f} s{rate if result.new_rows else ''}",
        *([f"Left out, as no longer in INPUT: {gone}"] if gone else []),
        *skipped_lines(result.skipped),
        f"Model class: {result.model_class}",
        f"Output: {result.output}",
    ]
    return "\n".join(lines)


@contextlib.contextmanager
def _exit_codes(*, debug: bool) -> Iterator[None]:
    """Turn an exception into an exit code, and a line or two on stderr."""
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
        code, text = INTERRUPTED, "interrupted; the same command continues where it stopped"
    except Exception as error:  # a disk, a store, or a bug, ours or a library's
        fault = access_fault(error)
        code, text = USER_ERROR, f"{one_line(error)}; {fault}"
        if fault is None:
            code, text = RUN_FAILED, f"{one_line(error)}\nRun again with --debug to see more."
    else:
        return
    if debug:
        traceback.print_exc()
    _print(f"gemma3-batch: {text}", _err)
    raise typer.Exit(code)
