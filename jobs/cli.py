"""The command line: thin, one function for each command, nothing decided here but exit codes.

0  every row is accounted for, even if some failed
1  the run failed; the same command goes on with it
2  the configuration or the input must be mended
3  more rows failed than `--max-error-rate` allows

Errors are one or two lines on stderr; a traceback only with `--debug`.
"""

from __future__ import annotations

import contextlib
import traceback
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError
from rich.console import Console

from jobs.captions import MAX_TOKENS, caption
from jobs.demonstration import ROWS, demonstrate
from jobs.results import retry_rows
from jobs.tables import export_errors, show_errors, status_text
from pipeline import ErrorRateError, RunError, RunResult, UserError, failed_rows, status
from pipeline.config import Dtype, describe_fault
from pipeline.errors import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

RUN_FAILED = 1
MUST_BE_MENDED = 2
TOO_MANY_FAILED = 3
INTERRUPTED = 130

app = typer.Typer(
    name="gemma3-batch",
    help="Caption large datasets with Gemma 3 on Ray and vLLM.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_out = Console()
_err = Console(stderr=True)

Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks and the workers' output.")]


@app.callback()
def _commands() -> None:
    """Caption large datasets with Gemma 3 on Ray and vLLM."""


@app.command(name="caption")
def caption_command(
    input: Annotated[  # noqa: A002
        str,
        typer.Argument(
            metavar="INPUT",
            help="Parquet, pictures, JSON lines or tar: a file, folder or glob; path or URI.",
        ),
    ],
    output: Annotated[
        str, typer.Argument(metavar="OUTPUT", help="Folder for the parquet files; path or URI.")
    ],
    model: Annotated[str, typer.Option(help="Folder of a Gemma 3 checkpoint, or 'demo'.")],
    image_column: Annotated[str, typer.Option(help="Column with the pictures.")] = "image",
    prompt: Annotated[str | None, typer.Option(help="What to ask about a picture.")] = None,
    max_tokens: Annotated[int, typer.Option(help="Longest caption, in tokens.")] = MAX_TOKENS,
    dtype: Annotated[Dtype | None, typer.Option(help="By default what suits the model.")] = None,
    max_num_seqs: Annotated[int, typer.Option(help="Rows one engine works on at once.")] = 64,
    tensor_parallel_size: Annotated[int, typer.Option(help="GPUs of one engine.")] = 1,
    engine_replicas: Annotated[
        int | None, typer.Option(help="Engines; by default as many as the GPUs hold.")
    ] = None,
    render_workers: Annotated[
        int | None, typer.Option(help="Processes that decode pictures.")
    ] = None,
    keep_images: Annotated[
        bool, typer.Option("--keep-images", help="Pass the pictures through to the output.")
    ] = False,
    dedup: Annotated[bool, typer.Option(help="Compute identical rows once.")] = True,
    max_error_rate: Annotated[
        float | None, typer.Option(help="Stop once more than this share of the rows has failed.")
    ] = None,
    new_version: Annotated[
        bool,
        typer.Option(
            "--new-version", help="Write to OUTPUT-v2 where OUTPUT has another prompt or model."
        ),
    ] = False,
    single_driver: Annotated[
        bool,
        typer.Option("--single-driver", help="Trust a store that ignores conditional writes."),
    ] = False,
    allow_private_addresses: Annotated[
        bool,
        typer.Option("--allow-private-addresses", help="Follow links into private networks."),
    ] = False,
    debug: Debug = False,
) -> None:
    """Caption every picture of a dataset."""
    with _faults_in_one_line(debug=debug):
        result = caption(
            input,
            output,
            model=model,
            image_column=image_column,
            prompt=prompt,
            max_tokens=max_tokens,
            dtype=dtype,
            max_num_seqs=max_num_seqs,
            tensor_parallel_size=tensor_parallel_size,
            engine_replicas=engine_replicas,
            render_workers=render_workers,
            keep_images=keep_images,
            dedup=dedup,
            max_error_rate=max_error_rate,
            new_version=new_version,
            single_driver=single_driver,
            allow_private_addresses=allow_private_addresses,
            console=_err,
            debug=debug,
        )
        _out.print(_summary(result), highlight=False, soft_wrap=True)


@app.command(name="status")
def status_command(
    output: Annotated[str, typer.Argument(metavar="OUTPUT", help="Folder of a run.")],
    debug: Debug = False,
) -> None:
    """Show how far a run is, whether or not it is running."""
    with _faults_in_one_line(debug=debug):
        _out.print(status_text(status(output)), highlight=False, soft_wrap=True)


@app.command(name="errors")
def errors_command(
    output: Annotated[str, typer.Argument(metavar="OUTPUT", help="Folder of a run.")],
    outcome: Annotated[
        list[str] | None, typer.Option(help="Only these; by default all without results.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows to show.")] = 20,
    export: Annotated[
        str | None, typer.Option(help="Write all of them to this parquet file instead.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Show the rows that failed, or write them to a parquet file."""
    with _faults_in_one_line(debug=debug):
        tables = failed_rows(output, outcome or ())
        if export is None:
            show_errors(tables, limit, _out)
        else:
            rows = export_errors(tables, export)
            _out.print(f"{rows:,} rows written to {export}", highlight=False, soft_wrap=True)


@app.command(name="retry")
def retry_command(
    output: Annotated[str, typer.Argument(metavar="OUTPUT", help="Folder of a run.")],
    outcome: Annotated[list[str], typer.Option(help="Do rows with this outcome again.")],
    model: Annotated[
        str | None, typer.Option(help="Folder of the model, where it has moved.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Do failed rows again and put what comes of them in their place."""
    with _faults_in_one_line(debug=debug):
        result = retry_rows(output, outcome, model=model, console=_err, debug=debug)
        _out.print(_summary(result), highlight=False, soft_wrap=True)


@app.command(name="demo")
def demo_command(
    output: Annotated[
        str | None,
        typer.Argument(metavar="[OUTPUT]", help="New folder; by default a fresh one here."),
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Drawings to caption.")] = ROWS,
    debug: Debug = False,
) -> None:
    """Caption drawings with the bundled model and show what comes out."""
    with _faults_in_one_line(debug=debug):
        demonstrate(output, rows=rows, console=_out, debug=debug)


@app.command(name="bench")
def bench_command(
    model: Annotated[str, typer.Option(help="Folder of a Gemma 3 checkpoint, or 'demo'.")] = "demo",
    rows: Annotated[int, typer.Option(min=1, help="Drawings to caption.")] = ROWS,
    debug: Debug = False,
) -> None:
    """Measure rendering, generation and the whole job on this machine."""
    from jobs.bench import bench

    with _faults_in_one_line(debug=debug):
        bench(model=model, rows=rows, console=_out)


def main() -> None:
    """Entry point of the console script."""
    app()


def _summary(result: RunResult) -> str:
    counts = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(result.outcomes.items()))
    rate = f", {result.rows_per_second:.1f} rows/s after the engine's start"
    same = f", {result.duplicates:,} of them like another one" if result.duplicates else ""
    return (
        f"{result.rows:,} rows ({counts}){same}; {result.new_rows:,} of them new, in "
        f"{result.seconds:.0f} s{rate if result.new_rows else ''}\n"
        f"Model class: {result.model_class}\n"
        f"Output: {result.output}"
    )


@contextlib.contextmanager
def _faults_in_one_line(*, debug: bool) -> Iterator[None]:
    try:
        yield
    except ValidationError as error:
        code, text = MUST_BE_MENDED, describe_fault(error)
    except UserError as error:
        code, text = MUST_BE_MENDED, str(error)
    except ErrorRateError as error:
        code, text = TOO_MANY_FAILED, str(error)
    except RunError as error:
        code, text = RUN_FAILED, f"{error}\nRun again with --debug to see more."
    except KeyboardInterrupt:
        code, text = INTERRUPTED, "interrupted; the same command goes on where it stopped"
    except Exception as error:  # whatever it is, it is told in one line
        code, text = RUN_FAILED, f"{one_line(error)}\nRun again with --debug to see more."
    else:
        return
    if debug:
        traceback.print_exc()
    _err.print(f"gemma3-batch: {text}", highlight=False, soft_wrap=True, markup=False)
    raise typer.Exit(code)
