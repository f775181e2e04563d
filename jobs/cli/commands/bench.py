"""The command `bench`: a job's speed on this machine."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.console import ERR, OUT, print_plain
from jobs.cli.demonstration import ROWS
from jobs.cli.exit_codes import exit_codes
from jobs.cli.flags import Debug
from jobs.cli.profile_tables import profile_text
from pipeline import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable


def bench_command(
    model: Annotated[str, typer.Option(help="Folder of a Gemma 3 checkpoint, or 'demo'.")] = "demo",
    job: Annotated[
        str, typer.Option(help="caption, translate, moderate, or your own (package.module:Name).")
    ] = "caption",
    rows: Annotated[int, typer.Option(min=1, metavar="<int>", help="Rows to do.")] = ROWS,
    input_tokens: Annotated[
        int | None,
        typer.Option(min=1, metavar="<int>", help="Tokens of a text; by default one sentence."),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="An option of the job; may be given repeatedly."),
    ] = None,
    repeats: Annotated[
        int, typer.Option(min=1, metavar="<int>", help="How often all is measured.")
    ] = 1,
    compare: Annotated[
        bool, typer.Option("--compare", help="Measure vLLM's own LLM.generate too.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, not a table.")] = False,
    debug: Debug = False,
) -> None:
    """Measure a job on this machine, beside its engine alone."""
    from jobs.cli.bench.measure import bench

    with exit_codes(debug=debug):
        report = bench(
            job=job,
            options={**_named_values(option or ()), "model": model},
            rows=rows,
            input_tokens=input_tokens,
            repeats=repeats,
            compare=compare,
            console=ERR,
        )
        if as_json:
            print_plain(json.dumps(report.to_json()))
        else:
            OUT.print(report.table())
            OUT.print(profile_text(report.profile), highlight=False)


def _named_values(given: Iterable[str]) -> dict[str, str]:
    """`NAME=VALUE` by name. Raises UserError."""
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"option: '{text}' should be NAME=VALUE")
        found[name.strip().replace("-", "_")] = value
    return found
