"""The command `retry`: failed rows computed again."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.cli.completion import OUTCOMES
from jobs.cli.console import ERR, print_plain
from jobs.cli.exit_codes import exit_codes
from jobs.cli.flags import Debug, OutputOfRun, StorageOptions
from jobs.cli.running import check_results, summary
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
) -> None:
    """Compute failed rows again and replace them in OUTPUT."""
    with exit_codes(debug=debug):
        done = retry_rows(
            output,
            outcome,
            model=model,
            endpoint=endpoint,
            join=join,
            storage_options=check_storage_options(storage_options),
            console=ERR,
            debug=debug,
        )
        print_plain(summary(done))
        check_results(done)
