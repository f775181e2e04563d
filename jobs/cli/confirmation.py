"""Shows the plan of a run and asks whether to run it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from jobs.cli.console import ERR, print_plain
from jobs.cli.plan_screen import plan_screen
from jobs.forecast.planning import Asked, kept_plan, plan_job
from pipeline import UserError

if TYPE_CHECKING:
    from jobs.sdk.assembly import ConfiguredJob

DECLINED = 130
"""As if it was interrupted from the keyboard."""


def ask(job: ConfiguredJob, source: str, output: str, debug: bool) -> None:
    """Show the plan that is kept for a run, or make one, and ask. Exits if the answer is no.

    Args:
        job: The job.
        source: Its input.
        output: Its output.
        debug: Show what Ray and the workers print.

    Raises:
        UserError: There is no terminal to ask at.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UserError(
            "confirm: there is no terminal to ask at; leave --confirm out, and see what is planned "
            "with `gemma3-batch plan`"
        )
    forecast = kept_plan(job, source, output)
    if forecast is None:
        forecast = plan_job(job, source, output, Asked(), console=ERR, debug=debug)
    else:
        print_plain(f"The plan of {forecast.made}:", ERR)
    ERR.print(plan_screen(forecast), highlight=False)
    if not typer.confirm("Run it?", err=True):
        print_plain("Not started.", ERR)
        raise typer.Exit(DECLINED)
