"""Decides what a command that computes rows prints at its end, and when it ends as failed."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from jobs.cli.confirmation import ask
from jobs.cli.console import ERR, print_plain
from jobs.cli.tables import skipped_lines
from jobs.forecast.stored import compared
from jobs.sdk.calls import run_job
from pipeline import ErrorRateError
from pipeline.contract.errors import shortened
from pipeline.contract.record import Outcome, counted
from pipeline.execution.display.json_log import JsonLog

if TYPE_CHECKING:
    from rich.console import Console

    from jobs.sdk.assembly import ConfiguredJob
    from pipeline import RunResult


def run_and_report(
    job: ConfiguredJob,
    source: str,
    output: str,
    debug: bool,
    shown: Console | JsonLog = ERR,
    *,
    confirm: bool = False,
) -> None:
    """Run a job and print what came of it.

    Args:
        job: The job and its options.
        source: INPUT.
        output: OUTPUT.
        debug: Show what Ray and the workers print.
        shown: Where progress is shown.
        confirm: Show the plan first, and ask.

    Raises:
        UserError: There is nobody to ask.
        ErrorRateError: No row has results.
    """
    if confirm:
        ask(job, source, output, debug)
    result = run_job(job, source, output, console=shown, debug=debug)
    report(result, shown)
    if job.options.max_error_rate != 1:
        check_results(result)


def check_results(result: RunResult) -> None:
    """Check that some row has results.

    Raises:
        ErrorRateError: None has.
    """
    computed = {o: n for o, n in result.outcomes.items() if o != Outcome.KEPT}
    if computed and not any(Outcome(outcome).has_results for outcome in computed):
        raise ErrorRateError(
            f"all {sum(computed.values()):,} rows failed, none has results; `gemma3-batch errors "
            f"{result.output}` shows why\nOnce that is mended, `gemma3-batch retry` does them "
            "again."
        )


def report(result: RunResult, shown: Console | JsonLog) -> None:
    """Print what came of a run: on stdout for people, and among the progress for programs."""
    print_plain(summary(result, planned=_planned(result)))
    if isinstance(shown, JsonLog):
        shown.write(
            "finished",
            rows=result.rows,
            new_rows=result.new_rows,
            outcomes=dict(result.outcomes),
            duplicates=result.duplicates,
            seconds=round(result.seconds, 1),
            rows_per_second=round(result.rows_per_second, 2),
            model_class=result.model_class,
            output=result.output,
        )


def summary(result: RunResult, planned: str | None = None) -> str:
    """What came of a run, in a few lines, with one that compares it with its plan."""
    rate = f", {result.rows_per_second:.1f} rows/s after the engine's start"
    same = f", {result.duplicates:,} of them identical to another" if result.duplicates else ""
    gone = shortened(result.left_out)
    failed = any(not Outcome(name).has_results for name, count in result.outcomes.items() if count)
    access = " --storage-options ..." if result.storage_options else ""
    why = f"Why rows failed: gemma3-batch errors {shlex.quote(result.output)}{access}"
    outcomes = counted(result.outcomes)
    lines = [
        f"{result.rows:,} rows ({outcomes}){same}; {result.new_rows:,} of them new, in "
        f"{result.seconds:.0f} s{rate if result.new_rows else ''}",
        *([f"Left out, as no longer in INPUT: {gone}"] if gone else []),
        *([planned] if planned else []),
        *([why] if failed else []),
        *skipped_lines(result.skipped),
        f"Model class: {result.model_class}",
        f"Output: {result.output}",
    ]
    return "\n".join(lines)


def _planned(result: RunResult) -> str | None:
    """What was planned beside what came of it, where there was a plan of this run."""
    try:
        line = compared(result)
    except Exception:  # a store's client; the run is done, and that is what matters
        return None
    return line and f"{line[:1].upper()}{line[1:]}"
