"""What Ray says of itself is in a file of its own, and never between our lines."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from pipeline.execution.quiet import RAY_LOGGER, messages_in_a_file


class Node:
    """Ray's node, as far as it says where its logs are."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get_logs_dir_path(self) -> str:
        return str(self._folder)


def test_messages_of_ray_are_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ray._private import worker

    monkeypatch.setattr(worker, "_global_node", Node(tmp_path))
    logger = logging.getLogger(RAY_LOGGER)
    before = [*logger.handlers], logger.propagate, worker.print_to_stdstream
    with messages_in_a_file(debug=False):
        message = {"lines": ["an actor died"], "pid": "raylet", "is_err": False}
        worker.print_to_stdstream(message, ignore_prefix=False)
        logger.error("the core says so")
    assert capsys.readouterr() == ("", "")
    (file,) = tmp_path.iterdir()
    assert file.read_text().splitlines() == ["an actor died", "the core says so"]
    assert ([*logger.handlers], logger.propagate, worker.print_to_stdstream) == before


def test_without_messages_there_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private import worker

    monkeypatch.setattr(worker, "_global_node", Node(tmp_path))
    with messages_in_a_file(debug=False):
        pass
    assert not [*tmp_path.iterdir()]
