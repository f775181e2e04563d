from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.contract.errors import UserError
from pipeline.engine.checkpoint import open_checkpoint


def refused(folder: Path) -> str:
    with pytest.raises(UserError) as error:
        open_checkpoint(str(folder))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_gemma_folder_is_recognised(gemma_folder: Path) -> None:
    checkpoint = open_checkpoint(str(gemma_folder))
    assert (checkpoint.profile.has_vision, checkpoint.profile.max_positions) == (True, 1024)
    assert open_checkpoint(str(gemma_folder)).identity == checkpoint.identity
    (gemma_folder / "model.safetensors").write_bytes(b"WEIGHTS")
    assert open_checkpoint(str(gemma_folder)).identity != checkpoint.identity


def test_what_is_wrong_with_a_folder_is_named(gemma_folder: Path, tmp_path: Path) -> None:
    assert "is not a folder here" in refused(tmp_path / "absent")
    (tmp_path / "bare").mkdir()
    assert "has no config.json" in refused(tmp_path / "bare")
    (tmp_path / "bare/config.json").write_text("{")
    assert "cannot be read" in refused(tmp_path / "bare")
    (tmp_path / "bare/config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    assert "is LlamaForCausalLM, not a Gemma 3" in refused(tmp_path / "bare")
    (gemma_folder / "tokenizer.json").unlink()
    assert "no tokenizer.json" in refused(gemma_folder)
    (gemma_folder / "model.safetensors").unlink()
    assert "no *.safetensors" in refused(gemma_folder)
