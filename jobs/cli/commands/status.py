"""The command `status`: how far a run is, and what bounds it."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.cli.console import OUT, print_plain
from jobs.cli.exit_codes import exit_codes
from jobs.cli.flags import Debug, OutputOfRun, StorageOptions
from jobs.cli.profile_tables import profile_text
from jobs.cli.tables import status_text
from jobs.options.check import check_storage_options
from pipeline import status


def status_command(
    output: OutputOfRun,
    profile: Annotated[
        bool, typer.Option("--profile", help="Show also where its time goes, and what bounds it.")
    ] = False,
    storage_options: StorageOptions = None,
    debug: Debug = False,
) -> None:
    """Show how far a run is, whether or not it is running."""
    with exit_codes(debug=debug):
        found = status(output, check_storage_options(storage_options))
        print_plain(status_text(found))
        if profile:
            OUT.print(profile_text(found.profile), highlight=False)
