"""What is measured of an engine. Each measure takes an ``LLM`` and returns figures as JSON can.

Every one runs once unmeasured at its own size first, so that nothing is compiled, captured or
rendered in the time that counts, and ignores the end of a text, so that all rows are equally long.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from vllm import LLM

CAPTION = (
    "<bos><start_of_turn>user\n<start_of_image>Describe this image in detail.<end_of_turn>\n"
    "<start_of_turn>model\n"
)
TOP = 20

FIRST_PLAIN_ID = 300
"""Ids below are control tokens, image tokens or single bytes in every tokenizer used here."""


def text(
    llm: LLM,
    *,
    rows: int,
    tokens_in: int,
    tokens_out: int,
    warm: bool = True,
    processor_time: bool = False,
) -> float:
    """Seconds for prompts of random tokens, all given at once; greedy.

    Args:
        llm: The engine.
        rows: Prompts.
        tokens_in: Tokens of each prompt.
        tokens_out: Tokens generated for each.
        warm: Whether the same work was done before by this engine.
        processor_time: Count this process's time on the processors and not the clock's; says
            something only of an engine in this process, and is steadier on a busy machine.
    """
    chance = np.random.default_rng(0)
    size = (rows, tokens_in)
    ids = chance.integers(FIRST_PLAIN_ID, llm.model_config.get_vocab_size() - 64, size)
    prompts = [{"prompt_token_ids": row} for row in ids.tolist()]
    clock = time.process_time if processor_time else time.perf_counter
    if not warm:
        _seconds(llm, prompts, tokens_out)
    return _seconds(llm, prompts, tokens_out, clock)


def captions(
    llm: LLM, *, rows: int, tokens_out: int, width: int = 1024, height: int = 768
) -> float:
    """Seconds for one image a row, rendered beforehand: vLLM's processor cache has them.

    The engine must have room for all of them there, and prefix caching off.
    """
    ids = llm.get_tokenizer().encode(CAPTION, add_special_tokens=False)
    prompts = [
        {"prompt_token_ids": ids, "multi_modal_data": {"image": image(seed, width, height)}}
        for seed in range(rows)
    ]
    _seconds(llm, prompts, tokens_out)
    llm.llm_engine.reset_encoder_cache()
    return _seconds(llm, prompts, tokens_out)


def image(seed: int, width: int, height: int) -> Image.Image:
    """Smooth noise, of which every part differs from every other."""
    blocks = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize((width, height), Image.Resampling.BICUBIC)


def tower(llm: LLM, *, batch: int, repetitions: int) -> float:
    """Seconds for one image in the vision tower alone."""
    (seconds,) = llm.collective_rpc("tower_seconds", args=(batch, repetitions))
    return float(seconds) / batch


def tower_state(llm: LLM) -> dict[str, Any]:
    """How the vision tower runs; see :meth:`tests.speed.probe.Probe.tower_state`."""
    (found,) = llm.collective_rpc("tower_state")
    return dict(found)


def tower_steps(llm: LLM, *, batch: int, repetitions: int) -> list[dict[str, Any]]:
    """Other ways to compute the tower; see :func:`tests.speed.tower_steps.try_steps`."""
    (found,) = llm.collective_rpc("tower_steps", args=(batch, repetitions))
    return list(found)


def graphs(llm: LLM) -> dict[str, Any]:
    """Which CUDA graphs there are; see :meth:`tests.speed.probe.Probe.graphs`."""
    (found,) = llm.collective_rpc("graphs")
    return dict(found)


def logprobs(llm: LLM, *, prompts: list[dict[str, Any]], tokens_out: int) -> list[dict[str, Any]]:
    """What the model says of every position of a prompt and of what it generates, greedily.

    Args:
        llm: The engine.
        prompts: Each with a ``text`` and the ``seeds`` of its images.
        tokens_out: Tokens generated for each.

    Returns:
        For each prompt its ``ids``, the ``generated`` ids, and in ``rows`` for every position
        but the first the log-probabilities of the likeliest tokens, as pairs with their ids.
    """
    from vllm import SamplingParams

    params = SamplingParams(
        temperature=0, max_tokens=tokens_out, ignore_eos=True, logprobs=TOP, prompt_logprobs=TOP
    )
    outputs = llm.generate([_request(llm, prompt) for prompt in prompts], params, use_tqdm=False)
    return [
        {
            "ids": list(output.prompt_token_ids),
            "generated": list(output.outputs[0].token_ids),
            "rows": [
                [(token, entry.logprob) for token, entry in row.items()]
                for row in [*output.prompt_logprobs[1:], *output.outputs[0].logprobs]
            ],
        }
        for output in outputs
    ]


def _request(llm: LLM, prompt: dict[str, Any]) -> dict[str, Any]:
    request = {
        "prompt_token_ids": llm.get_tokenizer().encode(prompt["text"], add_special_tokens=False)
    }
    images = [image(seed, 200, 150) for seed in prompt["seeds"]]
    return {**request, "multi_modal_data": {"image": images}} if images else request


def _seconds(
    llm: LLM,
    prompts: list[dict[str, Any]],
    tokens_out: int,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    from vllm import SamplingParams

    params = SamplingParams(temperature=0, max_tokens=tokens_out, ignore_eos=True)
    begin = clock()
    outputs = llm.generate(prompts, params, use_tqdm=False)
    seconds = clock() - begin
    lengths = {len(output.outputs[0].token_ids) for output in outputs}
    assert lengths == {tokens_out}, f"rows of {lengths} tokens, not {tokens_out}"
    return seconds
