"""TranslateGemma: its two ways to write positions, and both tokens that end an answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from vllm import LLM, SamplingParams
from vllm.engine.arg_utils import EngineArgs
from vllm.plugins import load_general_plugins

from gemma3_model.rope import rope_parameters
from tests.gemma3_model import checkpoints
from tests.gemma3_model.parity import Reference, engine
from tests.gemma3_model.test_parity import PROMPTS, TOLERANCE, worst

NESTED = {
    "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
    "full_attention": {"rope_type": "linear", "rope_theta": 500_000.0, "factor": 8.0},
}
"""The global base is not the default, so that one that is not read is seen."""

FLAT = {
    "rope_theta": 500_000.0,
    "rope_local_base_freq": 10_000.0,
    "rope_scaling": {"rope_type": "linear", "factor": 8.0},
}
FORMS: dict[str, dict[str, Any]] = {
    "Google's": {"rope_parameters": NESTED},
    "rebuilt for vLLM": FLAT,
    "both": {**FLAT, "rope_parameters": NESTED},
}


def rewrite_json(file: Path, **changes: Any) -> dict[str, Any]:
    content = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps(content))
    return content


def with_positions(folder: Path, form: str) -> None:
    file = folder / "config.json"
    text = json.loads(file.read_text())["text_config"]
    for key in ("rope_parameters", *FLAT):
        text.pop(key, None)
    rewrite_json(file, text_config={**text, **FORMS[form]})


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    load_general_plugins()
    return checkpoints.multimodal(tmp_path_factory.mktemp("translategemma"), rope_parameters=NESTED)


@pytest.mark.parametrize("form", list(FORMS))
def test_positions_are_read_from_every_form(checkpoint: Path, form: str) -> None:
    with_positions(checkpoint, form)
    config = EngineArgs(model=str(checkpoint)).create_model_config().hf_text_config
    local, global_ = (dict(NESTED[kind]) for kind in NESTED)
    assert [rope_parameters(config, layer) for layer in range(7)] == [*[local] * 5, global_, local]


@pytest.fixture(scope="module")
def llm(checkpoint: Path) -> Iterator[LLM]:
    """The flat form; the tokenizer ends with the turn, and only config.json knows both ends."""
    with_positions(checkpoint, "rebuilt for vLLM")
    rewrite_json(checkpoint / "tokenizer_config.json", eos_token="<end_of_turn>")
    (checkpoint / "generation_config.json").unlink()
    end_of_turn = json.loads((checkpoints.DEMO / "config.json").read_text())["eos_token_id"][1]
    rewrite_json(checkpoint / "config.json", eos_token_id=[1, end_of_turn])
    with engine(checkpoint) as llm:
        yield llm


def test_parity(llm: LLM, checkpoint: Path) -> None:
    differences = worst(llm, Reference(checkpoint), list(PROMPTS))
    assert max(differences.values()) < TOLERANCE, differences


@pytest.mark.parametrize(
    ("token", "length"), [("<eos>", 1), ("<end_of_turn>", 1), ("<start_of_turn>", 4)]
)
def test_either_token_ends_an_answer(llm: LLM, token: str, length: int) -> None:
    """The model can say nothing but ``token``."""
    only = llm.get_tokenizer().convert_tokens_to_ids(token)
    params = SamplingParams(max_tokens=4, allowed_token_ids=[only])
    (output,) = llm.generate({"prompt_token_ids": [2, 100]}, params, use_tqdm=False)
    assert list(output.outputs[0].token_ids) == [only] * length
