"""The command `run`: a job from a job file."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.cli.console import shown_as
from jobs.cli.exit_codes import exit_codes
from jobs.cli.flags import Confirm, Debug, LogFormat
from jobs.cli.job_file import check_reachable, read_job_file
from jobs.cli.running import run_and_report


def run_command(
    job_file: Annotated[
        str, typer.Argument(metavar="JOB.yaml", help="A job's input, output and options.")
    ],
    confirm: Confirm = False,
    debug: Debug = False,
    log_format: LogFormat = "text",
) -> None:
    """Run a job from a file, as `ray job submit` and schedulers do."""
    shown = shown_as(log_format)
    with exit_codes(debug=debug, shown=shown, continues=True):
        job = read_job_file(job_file)
        with job.naming_lines():
            check_reachable(job)
            run_and_report(job.job, job.input, job.output, debug, shown, confirm=confirm)
