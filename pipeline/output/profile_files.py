"""Where the profile of a driver that is at work, or was killed, is found: a file for each driver.

`OUTPUT/_gemma3_batch/profiles/<epoch>.json`, rewritten while the driver works. A driver that
finishes puts its profile into the run's record, so of several drivers that has the last one's; the
files are cleaned up then. Which profile is shown is decided here too: the one measured last.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from typing import TYPE_CHECKING

from pipeline.profiling.profile import Profile
from pipeline.storage.atomic import overwrite
from pipeline.storage.location import INTERNAL

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.output.fencing import Epoch
    from pipeline.output.run_record import Record
    from pipeline.storage.location import Location

FOLDER = "profiles"
SAVE_S = 10.0
"""Time between two writes."""
LAST_S = 3.0
"""Time for the last write, at the end of a driver."""


class ProfileFile:
    """The file of one driver. What goes wrong with it is not worth a run: it is passed over.

    It is written in a thread, so that the driver never waits for it.

    Args:
        epoch: The driver's.
    """

    def __init__(self, epoch: Epoch) -> None:
        self._where = epoch.output / INTERNAL / FOLDER / f"{epoch.number:06d}.json"
        self._written = 0.0
        self._thread: threading.Thread | None = None

    def offer(self, profile: Callable[[], Profile]) -> None:
        """Write the profile, if the last time is long enough ago."""
        is_writing = self._thread is not None and self._thread.is_alive()
        if not is_writing and time.monotonic() - self._written >= SAVE_S:
            self._written = time.monotonic()
            self._start(profile())

    def close(self, profile: Profile) -> None:
        """Write the profile of a driver that ends, whatever for."""
        if self._thread is not None:
            self._thread.join(LAST_S)
        self._start(profile).join(LAST_S)

    def _start(self, profile: Profile) -> threading.Thread:
        body = json.dumps(profile.to_json()).encode()
        self._thread = threading.Thread(
            target=self._write, args=(body,), name="profile", daemon=True
        )
        self._thread.start()
        return self._thread

    def _write(self, body: bytes) -> None:
        with contextlib.suppress(Exception):  # the stores' clients have errors of many kinds
            overwrite(self._where, body, sync=False)


def last_profile(output: Location, record: Record) -> Profile | None:
    """The profile that was measured last; None if there is none.

    Args:
        output: OUTPUT.
        record: Its run's.

    Raises:
        OSError: OUTPUT cannot be read.
    """
    folder = output / INTERNAL / FOLDER
    found = [_profile_in(folder / name) for name in folder.names() if name.endswith(".json")]
    found.append(Profile.from_json(record.get("profile", {})))
    known = [profile for profile in found if profile is not None]
    return max(known, key=lambda profile: profile.ended, default=None)


def _profile_in(file: Location) -> Profile | None:
    """A file's profile; None if its run has ended meanwhile, or it is damaged: it is not synced."""
    try:
        return Profile.from_json(json.loads(file.read()))
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None
