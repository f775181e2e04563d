"""Whether our numbers in bfloat16 differ from transformers' in float32 by rounding and no more.

How much rounding there is transformers in bfloat16 says: it is compared with float32 over the same
tokens. Runs wherever vLLM runs, so that a CPU can test the comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tests.gemma3_model.parity import Prompt, Reference
from tests.speed.measures import image
from tests.speed.worker import worker

TURN = "<bos><start_of_turn>user\n{}<end_of_turn>\n<start_of_turn>model\n"
LONG_TEXT = "a red circle left of a blue star on a white background. " * 12

PROMPTS: list[dict[str, Any]] = [
    {"text": TURN.format("Describe nothing."), "seeds": []},
    {"text": TURN.format(LONG_TEXT), "seeds": []},
    {"text": TURN.format("<start_of_image>Describe it."), "seeds": [1]},
    {"text": TURN.format("<start_of_image><start_of_image>Same?"), "seeds": [2, 3]},
    {"text": TURN.format(LONG_TEXT + "<start_of_image>" + LONG_TEXT), "seeds": [4]},
]
NUM_GENERATED = 8


@dataclass(frozen=True, kw_only=True)
class Distance:
    """From transformers in float32, over the likeliest tokens of every position.

    Attributes:
        largest: Nats.
        mean: Nats.
        agreement: Share of positions with the same likeliest token.
    """

    largest: float
    mean: float
    agreement: float

    def is_rounding(self, rounding: Distance) -> bool:
        """Whether this is of the size of a known rounding."""
        return (
            self.mean <= 1.5 * rounding.mean
            and self.largest <= 2.5 * rounding.largest
            and self.agreement >= rounding.agreement - 0.05
        )


def measure(
    checkpoint: Path, *, ours: bool = True, device: str, **engine: Any
) -> tuple[Distance, Distance]:
    """An engine's distance in bfloat16, and transformers' own."""
    return compare(ask(checkpoint, ours=ours, **engine), checkpoint, device=device)


def ask(checkpoint: Path, *, ours: bool = True, **engine: Any) -> list[dict[str, Any]]:
    """What an engine says in bfloat16; see :func:`tests.speed.measures.logprobs`."""
    settings = {"dtype": "bfloat16", "max_model_len": 1024, "max_logprobs": 20, **engine}
    with worker(checkpoint, ours=ours, **settings) as started:
        assert started.model_class.startswith("gemma3_model." if ours else "vllm.")
        answers: list[dict[str, Any]]
        answers = started.ask("logprobs", prompts=PROMPTS, tokens_out=NUM_GENERATED)
    return answers


def compare(
    answers: Sequence[dict[str, Any]], checkpoint: Path, *, device: str
) -> tuple[Distance, Distance]:
    """An engine's distance from transformers, and transformers' own in bfloat16."""
    exact = _references(checkpoint, answers, torch.float32, device)
    rounded = _references(checkpoint, answers, torch.bfloat16, device)
    seen = [torch.tensor([[pair[1] for pair in row[:20]] for row in a["rows"]]) for a in answers]
    theirs = [_picked(answer, row) for answer, row in zip(answers, rounded, strict=True)]
    return _distance(answers, seen, exact), _distance(answers, theirs, exact)


def _picked(answer: dict[str, Any], expected: torch.Tensor) -> torch.Tensor:
    """[positions, 20] of [positions, vocabulary]: the tokens that the engine named."""
    tokens = torch.tensor([[pair[0] for pair in row[:20]] for row in answer["rows"]])
    return expected.gather(1, tokens)


def _distance(
    answers: Sequence[dict[str, Any]],
    seen: Sequence[torch.Tensor],
    exact: Sequence[torch.Tensor],
) -> Distance:
    wanted = [_picked(answer, expected) for answer, expected in zip(answers, exact, strict=True)]
    differences = (torch.cat(list(seen)) - torch.cat(wanted)).abs()
    same = torch.cat(list(seen)).argmax(1) == torch.cat(wanted).argmax(1)
    return Distance(
        largest=float(differences.max()),
        mean=float(differences.mean()),
        agreement=float(same.float().mean()),
    )


@torch.no_grad()
def _references(
    checkpoint: Path, answers: Sequence[dict[str, Any]], dtype: torch.dtype, device: str
) -> list[torch.Tensor]:
    """transformers' log-probabilities, [positions, vocabulary] on the CPU, for each prompt."""
    reference = Reference(checkpoint)
    model = reference.model.to(device=device, dtype=dtype)
    found = []
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        images = tuple(image(seed, 200, 150) for seed in prompt["seeds"])
        inputs = reference.inputs(Prompt(text=prompt["text"], images=images))
        assert inputs["input_ids"][0].tolist() == answer["ids"], "the ids of the prompt differ"
        ids = torch.tensor([answer["ids"] + answer["generated"]])
        pixels = {"pixel_values": inputs["pixel_values"].to(device, dtype)} if images else {}
        soft = (ids == model.config.image_token_id).long()
        logits = model(
            input_ids=ids.to(device), token_type_ids=soft.to(device), use_cache=False, **pixels
        ).logits
        found.append(logits[0, :-1].float().log_softmax(-1).cpu())
    return found
