"""A GGUF file of a tiny Gemma 3, as llama.cpp writes it, becomes what it was made from."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
import torch
from safetensors.torch import load_file
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

from pipeline.contract.errors import UserError
from pipeline.engine.checkpoint import open_checkpoint
from pipeline.engine.models.cache import VARIABLE
from pipeline.engine.models.gguf_conversion import (
    LAYERS_OF_27B,
    check_architecture,
    complete_config,
)
from pipeline.engine.profile import END_OF_TURN

gguf = pytest.importorskip("gguf", reason="the extra `gguf` is not installed")
pytest.importorskip("accelerate", reason="the extra `gguf` is not installed")

WORDS = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", END_OF_TURN, "▁", "a", "b", "▁a"]
BYTES = [f"<0x{number:02X}>" for number in range(256)]
CONFIG = Gemma3TextConfig(
    vocab_size=len(WORDS) + len(BYTES),
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=6,
    num_attention_heads=2,
    num_key_value_heads=1,
    head_dim=32,
    query_pre_attn_scalar=32,
    sliding_window=48,
    max_position_embeddings=512,
    rope_parameters={
        "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
        "full_attention": {"rope_type": "linear", "rope_theta": 1_000_000.0, "factor": 8.0},
    },
)


def write_gguf(file: Path, model: Gemma3ForCausalLM) -> None:
    config = model.config
    writer = gguf.GGUFWriter(file, "gemma3")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_freq_base(1_000_000.0)
    writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
    writer.add_rope_scaling_factor(8.0)
    writer.add_sliding_window(config.sliding_window)
    write_vocabulary(writer)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GEMMA3, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        if name != "lm_head.weight":
            stored = tensor.float() + ("norm" in name)  # llama.cpp stores 1 + the norms' weights
            stem, _, last = name.rpartition(".")
            writer.add_tensor(f"{names.get_name(stem)}.{last}", stored.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_vocabulary(writer: gguf.GGUFWriter) -> None:
    kinds = gguf.TokenType
    control, normal = [kinds.CONTROL] * 6, [kinds.NORMAL] * (len(WORDS) - 6)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(WORDS + BYTES)
    writer.add_token_scores([0.0] * (len(WORDS) + len(BYTES)))
    writer.add_token_types([*control, *normal, *[kinds.BYTE] * len(BYTES)])
    for name, number in (("pad", 0), ("eos", 1), ("bos", 2), ("unk", 3)):
        getattr(writer, f"add_{name}_token_id")(number)
    writer.add_chat_template("{{ bos_token }}{{ messages[0]['content'] }}")


def test_a_gguf_file_is_converted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    torch.manual_seed(0)
    model = Gemma3ForCausalLM(CONFIG).to(torch.bfloat16)
    file = tmp_path / "tiny.gguf"
    write_gguf(file, model)
    checkpoint = open_checkpoint(str(file))
    assert checkpoint.name == str(file)
    assert checkpoint.profile.chat_template.startswith("{{ bos_token }}")
    weights = load_file(checkpoint.path / "model.safetensors")
    for name, tensor in model.state_dict().items():
        if name in weights:
            torch.testing.assert_close(weights[name], tensor, rtol=0.01, atol=0.01)
    assert len(weights) == len(model.state_dict()) - 1
    config = json.loads((checkpoint.path / "config.json").read_text())
    for name in ("rope_parameters", "sliding_window", "query_pre_attn_scalar", "rms_norm_eps"):
        assert config[name] == CONFIG.to_dict()[name], name
    assert "quantization_config" not in config
    made = checkpoint.path.stat().st_mtime_ns
    file.rename(tmp_path / "moved.gguf")
    (tmp_path / "moved.gguf").rename(file)
    assert open_checkpoint(str(file)).path.stat().st_mtime_ns == made


def test_a_conversion_holds_the_lock_also_without_its_parent(tmp_path: Path) -> None:
    """Where that is killed: a second conversion into the same folder would damage both."""
    folder = tmp_path / "work"
    code = (
        "import pathlib, subprocess, sys, time\n"
        "from pipeline.engine.models.cache import locked\n"
        f"with locked(pathlib.Path({str(folder)!r})) as lock:\n"
        "    child = subprocess.Popen(['sleep', '600'], pass_fds=[lock.fileno()])\n"
        "    print(child.pid, flush=True)\n"
        "    time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    with (tmp_path / "work.lock").open("w") as file:
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        child.kill()
        fcntl.flock(file, fcntl.LOCK_EX)


def test_another_models_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    file = tmp_path / "llama.gguf"
    writer = gguf.GGUFWriter(file, "llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(UserError, match=f"^model {file} is a llama, not a Gemma 3$"):
        open_checkpoint(str(file))
    with pytest.raises(ValueError, match="only a vision tower"):
        check_architecture({"general.architecture": "clip"})


def test_the_27b_scales_its_attention_by_the_width_of_a_head() -> None:
    config = Gemma3TextConfig(
        num_hidden_layers=LAYERS_OF_27B, hidden_size=5376, num_attention_heads=32, head_dim=128
    )
    complete_config(config, {})
    assert config.query_pre_attn_scalar == 168
