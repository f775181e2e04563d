"""The command `calibrate`: a policy's probabilities beside labels."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.cli.console import OUT
from jobs.cli.exit_codes import exit_codes
from jobs.cli.flags import Debug, StorageOptions
from jobs.cli.tables import calibration_table
from jobs.moderation.calibration import calibrate
from jobs.options.check import check_storage_options


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
    with exit_codes(debug=debug):
        found = calibrate(
            output,
            policy,
            labels=labels,
            precision=precision,
            storage_options=check_storage_options(storage_options),
        )
        OUT.print(calibration_table(found))
