"""Which profile of an OUTPUT is shown."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import pipeline.run  # noqa: F401  the module; its name is the function's
from pipeline.contract.errors import RunError
from pipeline.output import profile_files
from pipeline.output.fencing import Epoch
from pipeline.output.profile_files import ProfileFile, last_profile
from pipeline.profiling.collector import Collector
from pipeline.profiling.measures import Measures, Span
from pipeline.profiling.profile import Profile
from pipeline.storage.atomic import overwrite
from pipeline.storage.location import Location, locate


def profile_of(began: float, seconds: float) -> Profile:
    collector = Collector(began)
    collector.add(Measures(spans=(Span("read", began, began + seconds, 1),)))
    return collector.profile()


@pytest.fixture
def output(tmp_path: Path) -> Location:
    return locate(str(tmp_path))


def test_the_one_that_was_measured_last_is_shown(output: Location) -> None:
    assert last_profile(output, {}) is None
    finished = profile_of(1000, 50)
    record = {"profile": finished.to_json()}
    assert last_profile(output, record) == finished
    killed, joined = profile_of(1010, 20), profile_of(1020, 40)
    ProfileFile(Epoch(output, 1)).close(killed)
    assert last_profile(output, record) == finished
    ProfileFile(Epoch(output, 2)).close(joined)
    assert last_profile(output, record) == joined
    assert last_profile(output, {}) == joined


def test_a_file_that_is_damaged_is_none(output: Location) -> None:
    for number, body in enumerate((b"", b"{", b"{}", b'{"format": 1}', b"[]"), 1):
        overwrite(output / "_gemma3_batch/profiles" / f"{number:06d}.json", body)
    assert last_profile(output, {}) is None
    known = profile_of(1, 2)
    assert last_profile(output, {"profile": known.to_json()}) == known


def test_a_file_that_goes_meanwhile_is_none(
    output: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its run ends, and cleans up."""
    known = profile_of(1, 2)
    monkeypatch.setattr(Location, "names", lambda *_: ["000001.json"])
    assert last_profile(output, {"profile": known.to_json()}) == known


def test_it_is_written_at_times_and_never_waited_for(
    output: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = ProfileFile(Epoch(output, 1))
    file.offer(lambda: profile_of(1000, 1))
    file.offer(lambda: pytest.fail("it was written a moment ago"))
    monkeypatch.setattr(profile_files, "SAVE_S", 0.0)
    while last_profile(output, {}) is None:
        pass
    file.close(profile_of(1000, 2))
    assert last_profile(output, {}) == profile_of(1000, 2)

    def refuse(*_: object, **__: object) -> None:
        raise OSError("denied")

    monkeypatch.setattr(profile_files, "overwrite", refuse)
    file.offer(lambda: profile_of(1000, 3))
    file.close(profile_of(1000, 4))
    assert last_profile(output, {}) == profile_of(1000, 2)


def test_a_run_that_fails_leaves_its_profile(output: Location) -> None:
    module: Any = sys.modules["pipeline.run"]
    collector, mine = Collector(1000.0), SimpleNamespace(epoch=Epoch(output, 3))
    with contextlib.suppress(RunError), module._profiled(collector, mine):
        collector.add(Measures(spans=(Span("read", 1000.0, 1007.0, 5),)))
        raise RunError("the store failed")
    found = last_profile(output, {})
    assert found is not None
    assert (found.seconds, found.stages["read"].rows) == (7, 5)
