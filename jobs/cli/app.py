"""The command line: every job is a command, beside those of `commands`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.cli.commands.bench import bench_command
from jobs.cli.commands.calibrate import calibrate_command
from jobs.cli.commands.demo import demo_command
from jobs.cli.commands.diff import diff_command
from jobs.cli.commands.errors import errors_command
from jobs.cli.commands.plan import plan_app
from jobs.cli.commands.push import push_command
from jobs.cli.commands.report import report_command
from jobs.cli.commands.retry import retry_command
from jobs.cli.commands.run import run_command
from jobs.cli.commands.status import status_command
from jobs.cli.console import LogForm, print_error, print_plain, shown_as, wanted_form
from jobs.cli.ending import end
from jobs.cli.exit_codes import USER_ERROR, exit_codes
from jobs.cli.flags import Confirm, LogFormat, command_of
from jobs.cli.help import CONTEXT, EXIT_CODES, PLAIN, PlainCommand, PlainGroup, fault_of
from jobs.cli.running import run_and_report
from jobs.cli.versions import version_text
from jobs.registry import find_job, job_names
from jobs.sdk.assembly import configure
from pipeline import UserError
from pipeline.contract.suggest import suggestion

if TYPE_CHECKING:
    from collections.abc import Callable


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
            arguments = args[0] if args and args[0] is not None else sys.argv[1:]
            print_error(fault_of(error), code, shown_as(wanted_form(arguments)))
        sys.exit(code)


COMMAND: Any = {"cls": PlainCommand, "context_settings": CONTEXT}
RUN: Any = {**COMMAND, "epilog": EXIT_CODES}
app = typer.Typer(
    name="gemma3-batch",
    cls=JobsAndCommands,
    help="Caption, translate and moderate large datasets with Gemma 3 on Ray and vLLM.",
    epilog=EXIT_CODES,
    **{**PLAIN, "add_completion": True},
)


def _show_versions(is_wanted: bool) -> None:
    if is_wanted:
        print_plain(version_text())
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _commands(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001  its callback shows them
        bool,
        typer.Option(
            "--version",
            callback=_show_versions,
            is_eager=True,
            help="Show the versions, and the class of the model.",
        ),
    ] = False,
) -> None:
    """Caption, translate and moderate large datasets with Gemma 3 on Ray and vLLM."""
    if context.invoked_subcommand is None:
        print_plain(context.get_help().rstrip())


def job_command(name: str) -> Any:
    """Make the command of a job.

    Raises:
        UserError: The job is another package's and cannot be loaded.
    """
    one = find_job(name)

    def run(
        source: str,
        output: str,
        given: dict[str, Any],
        debug: bool,
        *,
        log_format: LogForm,
        confirm: bool,
    ) -> None:
        shown = shown_as(log_format)
        with exit_codes(debug=debug, shown=shown, continues=True):
            job = configure(one, given)
            run_and_report(job, source, output, debug, shown, confirm=confirm)

    alone = typer.Typer(**PLAIN)
    more = {"confirm": (Confirm, False), "log_format": (LogFormat, "text")}
    alone.command(name=name, help=one.help, **RUN)(command_of(one.options, run, more))
    return typer.main.get_command(alone)


def _failing_command(name: str, error: UserError) -> Any:
    """A command that reports why it cannot be loaded, so that `--help` and the others work."""
    alone = typer.Typer(**PLAIN)
    any_arguments = {"allow_extra_args": True, "ignore_unknown_options": True}

    @alone.command(name=name, help=f"Cannot be loaded: {error}", context_settings=any_arguments)
    def _() -> None:
        with exit_codes(debug=False):
            raise error

    return typer.main.get_command(alone)


NAMED: dict[str, tuple[Callable[..., None], dict[str, Any]]] = {
    "run": (run_command, RUN),
    "status": (status_command, COMMAND),
    "errors": (errors_command, COMMAND),
    "report": (report_command, COMMAND),
    "diff": (diff_command, COMMAND),
    "retry": (retry_command, RUN),
    "calibrate": (calibrate_command, COMMAND),
    "push": (push_command, COMMAND),
    "demo": (demo_command, COMMAND),
    "bench": (bench_command, COMMAND),
}
"""The commands that are no jobs, in the order in which the help lists them."""

app.add_typer(plan_app(), name="plan")
for _name, (_command, _settings) in NAMED.items():
    app.command(name=_name, **_settings)(_command)


def main() -> None:
    """Entry point of the console script."""
    try:
        app()
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            end(ended.code or 0)
        raise
