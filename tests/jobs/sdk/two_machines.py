"""What is done on a cluster of two machines, in a process of its own: `WHAT FOLDER`.

check      what the machines see; one line for each refusal
colours    colours of images in memory, without and with an OUTPUT, from a list and from a
           Ray dataset
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import ray.data

from jobs import function_of
from jobs.sdk import calls
from pipeline import EngineConfig, RunConfig, UserError, run
from pipeline.execution.shared_folders import (
    Sought,
    check_shared_file,
    check_shared_folders,
    look_for,
)
from pipeline.sources import list_input
from pipeline.storage.location import locate
from tests.pipeline.fakes import FAKE, ColourTask
from tests.pipeline.sample_images import encoded, plain

COLOURS = [[n, 7, 9] for n in range(40)]
OTHER = "other-machine"
"""The value of `MACHINE` in the environment of the processes on the other machine."""


def look_without(files: Sequence[Sought], hidden: str) -> tuple[str, list[bool]]:
    """Look as the other machine would if it did not see what `hidden` names."""
    if os.environ.get("MACHINE") != OTHER:
        return look_for(files)
    _, found = look_for(files)
    pairs = zip(files, found, strict=True)
    return OTHER, [is_there and not sought.what.startswith(hidden) for sought, is_there in pairs]


def check(folder: Path) -> None:
    """Tell what is refused; OUTPUT is left as it was."""
    model, output = folder / "gemma", folder / "new" / "out"
    output.parent.mkdir()
    config = RunConfig(
        input=str(folder / "in"), output=str(output), engine=EngineConfig(model=str(model))
    )
    listing = list_input(config.input)
    for hidden in ("INPUT", "model", "OUTPUT", "nothing"):
        look = partial(look_without, hidden=hidden)
        try:
            check_shared_folders(config, listing, locate(str(output)), look)
        except UserError as error:
            print(error)
        assert not output.exists()
    for name in ("photo.png", "no-such-file.png"):
        try:
            check_shared_file(str(folder / name), partial(look_without, hidden="file"))
        except UserError as error:
            print(error)


def colours(folder: Path) -> None:
    """Fail unless every row comes back with its colour."""
    calls.run = lambda *given, **options: run(  # type: ignore[attr-defined]
        *given, **{**options, "backend": FAKE}
    )
    function = function_of(ColourTask())
    images = [encoded(plain((n, 7, 9), (8, 8)), "PNG") for n in range(len(COLOURS))]
    model = str(folder / "gemma")
    assert [row["colour"] for row in function(images, model=model)] == COLOURS
    dataset = ray.data.from_items([{"image": image} for image in images], override_num_blocks=3)
    found = function(dataset, model=model).take_all()
    assert [row["colour"] for row in found] == COLOURS
    done = function(images, str(folder / "out"), model=model)
    assert done.table()["colour"].to_pylist() == COLOURS
    print("done")


def wait_for_both() -> None:
    """The other machine may still be starting."""
    give_up = time.monotonic() + 60
    while len([node for node in ray.nodes() if node["Alive"]]) < 2:
        assert time.monotonic() < give_up, "the other machine did not start"
        time.sleep(0.1)


if __name__ == "__main__":
    ray.init(log_to_driver=False)
    wait_for_both()
    {"check": check, "colours": colours}[sys.argv[1]](Path(sys.argv[2]))
