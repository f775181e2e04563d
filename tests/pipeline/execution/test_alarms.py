"""What a run warns of, once: rows that begin to fail, and disks that fill up."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pipeline.execution.alarms import GIB, Alarms
from pipeline.storage.location import locate


class Warned(list[str]):
    """What was warned of, as `RunProgress` would say it."""

    def warn(self, kind: str, text: str, **_: object) -> None:
        self.append(text)


class Usage(NamedTuple):
    free: int


@pytest.fixture
def warned() -> Warned:
    return Warned()


@pytest.fixture
def alarms(warned: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Alarms:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(100 * GIB))
    return Alarms(warned, locate(str(tmp_path)))


def test_rows_that_begin_to_fail_are_told(alarms: Alarms, warned: Warned) -> None:
    for _ in range(4):
        alarms.note({"ok": 495, "decode_error": 5})
    assert warned == []
    alarms.note({"ok": 400, "missing_input": 90, "decode_error": 10})
    assert warned == [
        "20 % of the last 500 rows failed (10 decode_error, 90 missing_input), 1 % of those "
        "before; `gemma3-batch errors` shows why"
    ]


def test_a_dataset_in_which_many_rows_always_fail_is_told_at_its_begin_alone(
    alarms: Alarms, warned: Warned
) -> None:
    for _ in range(10):
        alarms.note({"ok": 350, "too_long": 150})
    (told,) = warned
    assert told.startswith("30 % of the last 500 rows failed (150 too_long); ")
    assert "of those before" not in told


def test_a_disk_that_is_nearly_full_is_told(
    warned: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(GIB // 2))
    Alarms(warned, locate(str(tmp_path))).note({"ok": 1})
    assert warned[0] == (
        f"the disk of OUTPUT has 0.5 GiB left ({tmp_path}); make room, or the run stops when it is "
        "full"
    )
    assert "temporary files" in warned[1]
