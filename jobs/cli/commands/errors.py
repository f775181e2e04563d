"""The command `errors`: the rows that failed, shown or exported."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.cli.completion import OUTCOMES
from jobs.cli.console import OUT, print_plain
from jobs.cli.exit_codes import exit_codes
from jobs.cli.flags import Debug, OutputOfRun, StorageOptions
from jobs.cli.tables import export_errors, read_failed_rows, show_errors
from jobs.options.check import check_storage_options
from jobs.report.target import target_of
from pipeline.output.status import added_prefix
from pipeline.storage.location import locate


def errors_command(
    output: OutputOfRun,
    outcome: Annotated[
        list[str] | None,
        typer.Option(
            metavar="<outcome>",
            help="Only this outcome; by default all without results.",
            autocompletion=OUTCOMES,
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
    with exit_codes(debug=debug):
        options = check_storage_options(storage_options)
        tables = read_failed_rows(output, outcome or (), options)
        prefix = added_prefix(output, options)
        if export is None:
            show_errors(tables, limit, OUT, prefix)
        else:
            where = target_of(export, "export", [locate(output, options)], options)
            print_plain(f"{export_errors(tables, where):,} rows written to {export}")
