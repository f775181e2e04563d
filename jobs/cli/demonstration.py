"""The demonstration: the caption job on the bundled model, over drawings whose captions are known.

It runs the job as anyone would, reads the parquet back with nothing but pyarrow, and shows it. The
drawings and the model are `jobs.demo`'s.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.dataset
from rich.table import Table

from jobs.registry import DEMO
from jobs.sdk.functions import caption
from pipeline import RunResult, UserError

if TYPE_CHECKING:
    from rich.console import Console

ROWS = 300
"""Drawings the demonstration captions by default."""
FOLDER = "gemma3-batch-demo"
SHOWN = 12


@dataclass(frozen=True, kw_only=True)
class Demonstration:
    """What the demonstration left, and how well it did.

    Attributes:
        images: Folder with the drawings and the truth about them.
        captions: Folder with the job's output.
        run: What the job says of itself.
        exact: Captions that are word for word the truth, of all rows.
    """

    images: Path
    captions: Path
    run: RunResult
    exact: int


def demonstrate(
    output: str | None, *, rows: int, console: Console, debug: bool = False
) -> Demonstration:
    """Caption `rows` drawings into `output` and show some of them.

    Args:
        output: A new or empty folder; by default a fresh one in the current folder.
        rows: How many drawings to make.
        console: Where to show progress and the table.
        debug: Show what Ray and the workers print.

    Raises:
        UserError: `output` is in use.
        RunError: The run could not be finished.
    """
    from jobs.demo.dataset import write_dataset

    folder = _fresh_folder() if output is None else _unused_folder(output)
    images, captions = folder / "input", folder / "captions"
    console.print(f"Drawing {rows} images into {images}", highlight=False)
    write_dataset(images, rows)
    result = caption(str(images), str(captions), model=DEMO, console=console, debug=debug)
    shown = _read_back(captions)
    exact = sum(row["caption"] == row["truth"] for row in shown)
    done = Demonstration(images=images, captions=captions, run=result, exact=exact)
    _show(done, shown, console)
    return done


def _fresh_folder() -> Path:
    names = itertools.chain([FOLDER], (f"{FOLDER}-{number}" for number in itertools.count(2)))
    return next(path for path in map(Path.cwd().joinpath, names) if not path.exists())


def _unused_folder(output: str) -> Path:
    folder = Path(output).expanduser().absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"OUTPUT {folder} is in use; name a new folder, or none for a fresh one")
    return folder


def _read_back(captions: Path) -> list[dict[str, str | None]]:
    columns = ["name", "caption", "truth", "outcome"]
    rows: list[dict[str, str | None]] = (
        pyarrow.dataset.dataset(captions).to_table(columns=columns).to_pylist()
    )
    return rows


def _show(done: Demonstration, rows: list[dict[str, str | None]], console: Console) -> None:
    console.print(_table(rows[:SHOWN]))
    share = done.exact / len(rows)
    console.print(
        f"[bold]{done.exact} of {len(rows)} captions ({share:.1%}) are exactly right[/bold], "
        f"at {done.run.rows_per_second:.1f} rows/s after the engine's start.",
        highlight=False,
    )
    console.print(_next_steps(done), highlight=False, soft_wrap=True)


def _table(rows: list[dict[str, str | None]]) -> Table:
    table = Table("image", "caption", "what is truly on it", title="Some of the rows")
    for row in rows:
        right = row["caption"] == row["truth"]
        said = row["caption"] if row["caption"] is not None else f"({row['outcome']})"
        table.add_row(row["name"], f"[{'green' if right else 'red'}]{said}[/]", row["truth"])
    return table


def _next_steps(done: Demonstration) -> str:
    return (
        f"Model class: {done.run.model_class}\n"
        f"Captions:    {done.captions} (parquet; any reader opens the folder)\n"
        f"Images:      {done.images} (with the truth about each)\n"
        "The bundled model knows these drawings only. Try next, on images of your own:\n"
        "  gemma3-batch caption IMAGES CAPTIONS --model /path/to/gemma-3-4b-it\n"
        "where IMAGES is a folder of images or of parquet files with an image column."
    )
