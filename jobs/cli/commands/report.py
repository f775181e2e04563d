"""The command `report`: a page that shows what a run gave."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.console import ERR, print_plain
from jobs.cli.exit_codes import exit_codes
from jobs.cli.flags import Debug, OutputOfRun, StorageOptions
from jobs.options.check import check_storage_options

if TYPE_CHECKING:
    from jobs.report.write import Written

ROWS = 10_000
IMAGE_SECONDS = 120.0


def report_command(
    output: OutputOfRun,
    to: Annotated[
        str | None,
        typer.Option(help="The file; by default NAME-report.html in the current folder."),
    ] = None,
    rows: Annotated[
        int,
        typer.Option(min=1, max=100_000, metavar="<int>", help="Most rows that it shows."),
    ] = ROWS,
    image_seconds: Annotated[
        float,
        typer.Option(
            min=0, metavar="<float>", help="Most time to spend on images; 0 for none of them."
        ),
    ] = IMAGE_SECONDS,
    storage_options: StorageOptions = None,
    debug: Debug = False,
) -> None:
    """Write a page that shows what a run gave: rows, images, numbers, failures, where time went."""
    with exit_codes(debug=debug):
        from jobs.report.write import write_report

        done = write_report(
            output,
            to,
            rows=rows,
            image_seconds=image_seconds,
            storage_options=check_storage_options(storage_options),
            say=lambda text: print_plain(f"report: {text}", ERR),
        )
        print_plain(_summary(done))


def _summary(done: Written) -> str:
    lines = [f"{done.rows:,} of {done.of:,} rows, {done.size / 2**20:,.1f} MiB"]
    missing, why = done.without_image
    if done.images or missing:
        lines[0] += f", {done.images:,} of them with their image"
    if missing:
        lines.append(f"Without an image: {missing:,}, mostly because {why}")
    lines.append(f"Report: {done.path}")
    return "\n".join(lines)
