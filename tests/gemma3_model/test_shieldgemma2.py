"""ShieldGemma 2's Yes and No probabilities, against transformers' own class."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoProcessor, ShieldGemma2ForImageClassification
from vllm import SamplingParams

from tests.gemma3_model import checkpoints
from tests.gemma3_model.parity import engine
from tests.gemma3_model.test_parity import TURN, sample_image

TOLERANCE = 1e-4
"""Of a probability."""
POLICIES = ("a red circle", "a blue star on a white background", "")


def transformers_probabilities(
    folder: Path, yes: int, no: int, texts: list[str]
) -> list[list[float]]:
    model = ShieldGemma2ForImageClassification.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    model.yes_token_index, model.no_token_index = yes, no
    processor = AutoProcessor.from_pretrained(checkpoints.DEMO)
    probabilities = []
    for text in texts:
        inputs = processor(
            text=text, images=[sample_image(3)], add_special_tokens=False, return_tensors="pt"
        )
        image_token = model.config.image_token_index
        inputs["token_type_ids"] = (inputs["input_ids"] == image_token).long()
        with torch.no_grad():
            probabilities.append(model(**inputs).probabilities[0].tolist())
    return probabilities


def test_probabilities(tmp_path: Path) -> None:
    folder = checkpoints.shieldgemma2(tmp_path)
    texts = [TURN.format(f"<start_of_image>Does it show {policy}?") for policy in POLICIES]
    with engine(folder) as llm:
        assert llm.collective_rpc("loaded_model_class") == [
            "gemma3_model.model.ShieldGemma2ForImageClassification"
        ]
        assert llm.llm_engine.vllm_config.model_config.is_mm_prefix_lm
        tokenizer = llm.get_tokenizer()
        yes, no = (tokenizer.convert_tokens_to_ids(word) for word in ("Yes", "No"))
        assert tokenizer.unk_token_id not in (yes, no)
        requests = [
            {
                "prompt_token_ids": tokenizer.encode(text, add_special_tokens=False),
                "multi_modal_data": {"image": sample_image(3)},
            }
            for text in texts
        ]
        params = SamplingParams(max_tokens=1, temperature=0, logprob_token_ids=[yes, no])
        outputs = llm.generate(requests, params, use_tqdm=False)
    expected = transformers_probabilities(folder, yes, no, texts)
    for output, (of_yes, of_no) in zip(outputs, expected, strict=True):
        found = output.outputs[0].logprobs[0]
        ours = torch.tensor([found[yes].logprob, found[no].logprob]).softmax(0).tolist()
        assert abs(ours[0] - of_yes) < TOLERANCE
        assert abs(ours[1] - of_no) < TOLERANCE
