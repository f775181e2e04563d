"""The command `diff`: what differs between two runs."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from jobs.cli.console import ERR, OUT, print_plain
from jobs.cli.exit_codes import exit_codes
from jobs.cli.flags import Debug, StorageOptions
from jobs.options.check import check_storage_options


def diff_command(
    one: Annotated[str, typer.Argument(metavar="OUT1", help="Folder of a run.")],
    other: Annotated[str, typer.Argument(metavar="OUT2", help="Folder of another run.")],
    to: Annotated[
        str | None, typer.Option(help="Write a page with the differences to this HTML file too.")
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(
            help="Column that tells which rows belong together; by default row_key, which is the "
            "same for the same INPUT and --unit-rows."
        ),
    ] = None,
    samples: Annotated[
        int,
        typer.Option(min=0, max=10_000, metavar="<int>", help="Changed rows in the page."),
    ] = 200,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, not a table.")] = False,
    storage_options: StorageOptions = None,
    debug: Debug = False,
) -> None:
    """Show what differs between two runs: settings, rows, outcomes and answers."""
    with exit_codes(debug=debug):
        from jobs.cli.diff_tables import diff_text
        from jobs.report.diff.compare import compare_outputs
        from jobs.report.diff.page import write_page
        from jobs.report.target import target_of
        from pipeline.storage.location import locate

        options = check_storage_options(storage_options)
        if to is not None:  # before all is read
            target_of(to, "to", [locate(output, options) for output in (one, other)], options)
        found = compare_outputs(one, other, on=on, samples=samples, storage_options=options)
        if as_json:
            print_plain(json.dumps(found.to_json(), ensure_ascii=False))
        else:
            OUT.print(diff_text(found), highlight=False)
        if to is not None:
            where = write_page(found, to, storage_options=options)
            print_plain(f"Page: {where}", ERR if as_json else OUT)
