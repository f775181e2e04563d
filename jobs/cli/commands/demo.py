"""The command `demo`: drawings captioned by the bundled model."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.cli.console import OUT
from jobs.cli.demonstration import ROWS, demonstrate
from jobs.cli.exit_codes import exit_codes
from jobs.cli.flags import Debug


def demo_command(
    output: Annotated[
        str | None,
        typer.Argument(metavar="OUTPUT", help="New folder; by default one in this folder."),
    ] = None,
    rows: Annotated[int, typer.Option(min=1, metavar="<int>", help="Drawings to caption.")] = ROWS,
    debug: Debug = False,
) -> None:
    """Caption drawings with the bundled model and show the captions."""
    with exit_codes(debug=debug):
        demonstrate(output, rows=rows, console=OUT, debug=debug)
