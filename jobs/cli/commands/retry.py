"""The command `retry`: failed rows computed again."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.cli.completion import OUTCOMES
from jobs.cli.console import shown_as
from jobs.cli.exit_codes import exit_codes
from jobs.cli.flags import Debug, LogFormat, OutputOfRun, StorageOptions
from jobs.cli.running import check_results, report
from jobs.options.check import check_storage_options
from jobs.sdk.retry import retry_rows


def retry_command(
    output: OutputOfRun,
    outcome: Annotated[
        list[str],
        typer.Option(
            metavar="<outcome>",
            help="Compute rows with this outcome again.",
            autocompletion=OUTCOMES,
        ),
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
    log_format: LogFormat = "text",
) -> None:
    """Compute failed rows again and replace them in OUTPUT."""
    shown = shown_as(log_format)
    with exit_codes(debug=debug, shown=shown, continues=True):
        done = retry_rows(
            output,
            outcome,
            model=model,
            endpoint=endpoint,
            join=join,
            storage_options=check_storage_options(storage_options),
            console=shown,
            debug=debug,
        )
        report(done, shown)
        check_results(done)
