"""Where something is put that belongs to an OUTPUT that must not be begun."""

from __future__ import annotations

from pipeline.storage.location import INTERNAL, Location


def beside(output: Location, suffix: str) -> Location:
    """A place beside OUTPUT, called as it is and `suffix`.

    A bucket has nothing beside it; there it is among what is internal in OUTPUT, which a run that
    is new there passes over.

    Args:
        output: OUTPUT.
        suffix: A name that begins with a dot.
    """
    path = output.path.rstrip("/")
    if not output.is_local and "/" not in path:
        return output / INTERNAL / suffix.removeprefix(".")
    return Location(output.fs, path + suffix)
