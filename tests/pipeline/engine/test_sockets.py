"""An engine's sockets go with it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from vllm.utils.network_utils import get_open_zmq_ipc_path

from pipeline.engine.sockets import VARIABLE, SocketFolder

DIES = """
import os, signal
from pipeline.engine.orphans import OrphanCleanup
from pipeline.engine.sockets import SocketFolder
OrphanCleanup(SocketFolder().path)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    return tmp_path


def test_vllm_makes_its_sockets_there(parent: Path) -> None:
    folder = SocketFolder()
    with folder.used():
        made = get_open_zmq_ipc_path().removeprefix("ipc://")
    assert Path(made).parent == Path(folder.path)
    assert stat.S_IMODE(Path(folder.path).stat().st_mode) == 0o700
    assert os.environ[VARIABLE] == str(parent)
    Path(made).touch()
    folder.remove()
    assert [*parent.iterdir()] == []


def test_an_engine_that_does_not_start_leaves_nothing(parent: Path) -> None:
    with pytest.raises(RuntimeError), SocketFolder().used():
        raise RuntimeError
    assert [*parent.iterdir()] == []


def test_they_go_with_a_process_that_was_killed(parent: Path) -> None:
    done = subprocess.run([sys.executable, "-c", DIES], stderr=subprocess.PIPE, check=False)
    # The watcher holds the other end of it until it has finished.
    assert done.stderr == b""
    assert [*parent.iterdir()] == []
