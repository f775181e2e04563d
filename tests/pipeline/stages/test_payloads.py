"""Payloads: what only one process knows travels with them, and nothing else takes that way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from ray import cloudpickle

from pipeline.contract.task import Generation
from pipeline.stages.payloads import LARGE, bodies, dumped, joined, loaded

LOAD = """
import sys
from pathlib import Path
import pyarrow as pa
from pipeline.stages.payloads import loaded
print(loaded(pa.py_buffer(Path(sys.argv[1]).read_bytes())).twice(4))
"""
GENERATION = Generation("a cat", 7, 3, "stop")


def body_of(payload: object) -> pa.Buffer:
    (body,) = bodies(pa.chunked_array([joined([dumped(payload)])]))
    assert body is not None
    return body


def in_main() -> object:
    """Of a class as a notebook defines it."""
    code = "class Task:\n    def twice(self, value):\n        return 2 * value\n"
    exec(code, main := {"__name__": "__main__"})
    kind: Any = main["Task"]
    sys.modules["__main__"].Task = kind  # type: ignore[attr-defined]
    return kind()


def in_a_function() -> object:
    class Task:
        def twice(self, value: int) -> int:
            return 2 * value

    return Task()


@pytest.mark.parametrize("make", [in_main, in_a_function])
def test_a_class_of_this_process_is_known_in_another(make: Any, tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(body_of(make()).to_pybytes())
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(tmp_path / "body")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "8\n"


@pytest.mark.parametrize(
    "payload", [{"text": "x" * LARGE, "n": 3, "none": None}, GENERATION, ("__main", b"_")]
)
def test_what_can_be_imported_is_pickled_by_name(
    payload: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloudpickle, "dumps", None)
    assert loaded(body_of(payload)) == payload


def test_a_text_may_speak_of_main() -> None:
    assert loaded(body_of(text := "if __name__ == '__main__': ...")) == text


@pytest.mark.parametrize("kind", ["plain", "of this process"])
def test_large_arrays_lie_behind_the_pickle(kind: str) -> None:
    arrays = [np.full(size, 7, np.uint8) for size in (3, LARGE, LARGE + 1)]
    state = None if kind == "plain" else in_a_function()
    parts = dumped((arrays, state))
    assert [part.nbytes for part in parts[2:]] == [LARGE, LARGE + 1]
    found, _ = loaded(body_of((arrays, state)))
    for one, other in zip(found, arrays, strict=True):
        np.testing.assert_array_equal(one, other)
