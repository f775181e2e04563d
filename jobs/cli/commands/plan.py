"""The command `plan`: what a run will take, before it is run.

gemma3-batch plan JOB.yaml [options of plan]
gemma3-batch plan JOB INPUT OUTPUT [options of the job and of plan]
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.cli.console import ERR, OUT, print_plain
from jobs.cli.exit_codes import exit_codes
from jobs.cli.flags import Debug, More, command_of
from jobs.cli.help import CONTEXT, EXIT_CODES, PLAIN, PlainCommand, PlainGroup
from jobs.cli.job_file import check_reachable, read_job_file
from jobs.cli.plan_screen import plan_screen
from jobs.forecast.planning import Asked, plan_job
from jobs.forecast.stored import place_of
from jobs.registry import find_job, job_names
from jobs.sdk.assembly import configure
from pipeline.contract.suggest import suggestion
from pipeline.storage.location import locate

if TYPE_CHECKING:
    from jobs.forecast.forecast import Forecast
    from jobs.sdk.assembly import ConfiguredJob

PANEL = "Options of plan"
PilotRows = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="<int>",
        rich_help_panel=PANEL,
        help="Rows of the pilot; by default 400, or what it takes to fill an engine.",
    ),
]
Replicas = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="<int>",
        rich_help_panel=PANEL,
        help="Engines of the run; by default as many as it would have here.",
    ),
]
Price = Annotated[
    float | None,
    typer.Option(
        min=0,
        metavar="<float>",
        rich_help_panel=PANEL,
        help="What a GPU costs for an hour, in any currency.",
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", rich_help_panel=PANEL, help="Print JSON, not a screen.")
]
MORE: More = {
    "pilot_rows": (PilotRows, None),
    "replicas": (Replicas, None),
    "price": (Price, None),
    "json": (AsJson, False),
}
FROM_FILE = "JOB.yaml"
OPTIONS_FIRST = "-"
"""Stands before options that come before a job file, in place of a command."""
COMMAND: Any = {"cls": PlainCommand, "context_settings": CONTEXT, "epilog": EXIT_CODES}


class JobsAndFile(PlainGroup):
    """Every job is a command here too; any other first word is a job file."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Options that come before a job file are its command's."""
        if args and args[0].startswith("-") and args[0] not in ctx.help_option_names:
            args = [OPTIONS_FIRST, *args]
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of the jobs, then that of a job file."""
        return [*job_names(), FROM_FILE]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that the arguments begin with."""
        name = args[0]
        if name in job_names():
            return name, self.get_command(ctx, name), args[1:]
        if name != OPTIONS_FIRST and not {".", "/"} & {*name}:
            near = suggestion(name, job_names()).strip(" ?")
            ctx.fail(f"no such job '{name}'{near and f', {near}'}")
        rest = args[1:] if name == OPTIONS_FIRST else args
        return FROM_FILE, self.get_command(ctx, FROM_FILE), rest

    def get_command(self, ctx: Any, name: str) -> Any:
        """The command of a job, or that of a job file."""
        alone = typer.Typer(**PLAIN)
        if name == FROM_FILE:
            alone.command(name=name, **COMMAND)(plan_file)
        elif name in job_names():
            job = find_job(name)
            alone.command(name=name, help=job.help, **COMMAND)(
                command_of(job.options, _of(job), MORE)
            )
        else:
            return None
        return typer.main.get_command(alone)


def plan_app() -> typer.Typer:
    """The command with those of the jobs."""
    app = typer.Typer(
        cls=JobsAndFile,
        help="Say what a run will take (time, GPU-hours, failures), by a pilot on some rows.",
        no_args_is_help=True,
        **PLAIN,
    )
    app.callback()(lambda: None)
    return app


def _of(job: Any) -> Any:
    def run(source: str, output: str, given: dict[str, Any], debug: bool, **asked: Any) -> None:
        with exit_codes(debug=debug):
            _plan(configure(job, given), source, output, debug, **asked)

    return run


def plan_file(
    job_file: Annotated[
        str, typer.Argument(metavar=FROM_FILE, help="A job's input, output and options.")
    ],
    pilot_rows: PilotRows = None,
    replicas: Replicas = None,
    price: Price = None,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Plan a job from a file."""
    with exit_codes(debug=debug):
        job = read_job_file(job_file)
        with job.naming_lines():
            check_reachable(job)
            asked: dict[str, Any] = {"pilot_rows": pilot_rows, "replicas": replicas}
            _plan(job.job, job.input, job.output, debug, price=price, json=json, **asked)


def _plan(
    job: ConfiguredJob, source: str, output: str, debug: bool, *, json: bool, **asked: Any
) -> None:
    forecast = plan_job(job, source, output, Asked(**asked), console=ERR, debug=debug)
    if json:
        print_plain(_as_json(forecast))
        return
    OUT.print(plan_screen(forecast), highlight=False)
    where = place_of(locate(forecast.output, job.options.storage_options))
    print_plain(f"Kept in {where}; the run will say how it compares.", ERR)


def _as_json(forecast: Forecast) -> str:
    return json.dumps(forecast.to_json(), ensure_ascii=False)
