"""The command `push`: the output files, uploaded to the Hugging Face Hub."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.console import ERR, print_plain
from jobs.cli.exit_codes import exit_codes
from jobs.cli.flags import Debug, OutputOfRun, StorageOptions
from jobs.options.check import check_storage_options
from pipeline.output.hub.push import push

if TYPE_CHECKING:
    from pipeline.output.hub.push import Pushed


def push_command(
    output: OutputOfRun,
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET", help="hf://datasets/owner/name, or with @branch; made if missing."
        ),
    ],
    private: Annotated[bool, typer.Option("--private", help="Make the dataset private.")] = False,
    partial: Annotated[
        bool, typer.Option("--partial", help="Upload what there is of an unfinished run.")
    ] = False,
    storage_options: StorageOptions = None,
    debug: Debug = False,
) -> None:
    """Upload the output files to the Hugging Face Hub, with a dataset card. Needs HF_TOKEN."""
    with exit_codes(debug=debug, continues=True):
        done = push(
            output,
            target,
            private=private,
            partial=partial,
            storage_options=check_storage_options(storage_options),
            say=lambda text: print_plain(text, ERR),
        )
        print_plain(_push_summary(done))


def _push_summary(done: Pushed) -> str:
    same = done.parts - done.uploaded
    gone = f", {done.removed:,} removed" if done.removed else ""
    lines = [
        f"{done.parts:,} parts: {done.uploaded:,} uploaded, {same:,} were there{gone}; "
        f"{done.commits:,} commit(s)",
        *(["Its README.md is its own and was left as it is."] if done.keeps_card else []),
        f"Dataset: {done.url}",
    ]
    return "\n".join(lines)
