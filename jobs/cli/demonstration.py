"""The command `demo`: the bundled model captions drawings whose true captions are known.

It runs the job as a user would, reads the parquet files with pyarrow, and shows some rows. The
drawings and the model are in `jobs.demo`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.dataset
from rich.table import Table
from rich.text import Text

from jobs.cli.console import print_plain
from jobs.registry import DEMO
from jobs.sdk.functions import caption
from pipeline import RunResult, UserError

if TYPE_CHECKING:
    from rich.console import Console

ROWS = 300
"""Drawings to caption by default."""
FOLDER = "gemma3-batch-demo"
SHOWN = 12


@dataclass(frozen=True, kw_only=True)
class Demonstration:
    """The result of the demonstration.

    Attributes:
        images: Folder with the drawings and their true captions.
        captions: Folder with the job's output.
        run: The run's result.
        exact: How many captions are exactly the true ones.
    """

    images: Path
    captions: Path
    run: RunResult
    exact: int


def demonstrate(
    output: str | None, *, rows: int, console: Console, debug: bool = False
) -> Demonstration:
    """Caption drawings and show some of the captions.

    Args:
        output: A new or empty folder; by default a new one in the current folder.
        rows: How many drawings to make.
        console: Where progress and the table are shown.
        debug: Show what Ray and the workers print.

    Raises:
        UserError: `output` is not empty.
        RunError: The run could not be finished.
    """
    from jobs.demo.dataset import write_dataset

    folder = _new_folder(output)
    images, captions = folder / "input", folder / "captions"
    print_plain(f"Drawing {rows} images into {images}", console)
    write_dataset(images, rows)
    result = caption(str(images), str(captions), model=DEMO, console=console, debug=debug)
    shown = _read_back(captions)
    exact = sum(row["caption"] == row["truth"] for row in shown)
    done = Demonstration(images=images, captions=captions, run=result, exact=exact)
    _show(done, shown, console)
    return done


def _new_folder(output: str | None) -> Path:
    """The folder `output`, which must be empty; without it the first free name here."""
    if output is None:
        names = itertools.chain([FOLDER], (f"{FOLDER}-{number}" for number in itertools.count(2)))
        return next(path for path in map(Path.cwd().joinpath, names) if not path.exists())
    folder = Path(output).expanduser().absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"OUTPUT {folder} is in use; name a new folder, or none for the default")
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
    print_plain(_next_steps(done), console)


def _table(rows: list[dict[str, str | None]]) -> Table:
    table = Table("image", "caption", "true caption", title="Some of the rows")
    for row in rows:
        style = "green" if row["caption"] == row["truth"] else "red"
        shown = row["caption"] if row["caption"] is not None else f"({row['outcome']})"
        table.add_row(row["name"], Text(shown, style), row["truth"])
    return table


def _next_steps(done: Demonstration) -> str:
    return (
        f"Model class: {done.run.model_class}\n"
        f"Captions:    {done.captions} (parquet; any reader opens the folder)\n"
        f"Images:      {done.images} (with their true captions)\n"
        "The bundled model knows only these drawings. Next, try images of your own:\n"
        "  gemma3-batch caption IMAGES CAPTIONS --model /path/to/gemma-3-4b-it\n"
        "where IMAGES is a folder of images or of parquet files with an image column."
    )
