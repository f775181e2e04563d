"""Our model inside vLLM beside transformers, in float32, on real weights, at every position."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from babel import Locale
from vllm import LLM, SamplingParams

from gemma3_model import attention
from tests.gemma3_model.parity import engine, unbound

TOLERANCE = 1e-3
"""Nats; the promise."""
GENERATED = 8
TOP = 20
SLICE = 256
"""Positions of which all 262,144 logits are held at once."""
ENGINE = {"max_model_len": 3100, "num_gpu_blocks_override": 640}
LENGTHS = (1, 17, 513)
"""Tokens; the window is 512."""
MORE_LENGTHS = (2, 511, 512, 1100)
LONGEST = 3000
LOCAL_BASE = 10_000.0
"""RoPE's base in local layers; in global ones it is 1,000,000."""
SCRIPTS = ("am", "ar", "bn", "de", "el", "he", "hi", "ja", "ka", "km", "ko", "ru", "ta", "th", "zh")


def tale(tokens: int) -> list[int]:
    """So many ids of a text that does not repeat itself, after `<bos>`."""
    drawn = torch.Generator().manual_seed(5)
    return [2, *torch.randint(1000, 200_000, (tokens,), generator=drawn).tolist()][:tokens]


def written(code: str, tokenizer: Any) -> list[int]:
    """Ids of names of countries in a language, after `<bos>`."""
    text = ", ".join(islice(Locale.parse(code).territories.values(), 40))
    return [2, *tokenizer.encode(text, add_special_tokens=False)]


class Reference:
    """transformers' model; of each position only the log-probabilities that are asked for."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForCausalLM

        loaded = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager"
        ).eval()
        self._decoder, self._head = loaded.model, loaded.lm_head

    @torch.no_grad()
    def worst(self, ids: Sequence[int], asked: Sequence[Mapping[int, Any] | None]) -> float:
        """The largest difference to vLLM's log-probabilities of what follows each position."""
        hidden = self._decoder(torch.tensor([[*ids]]), use_cache=False).last_hidden_state[0]
        positions = [at for at, wanted in enumerate(asked) if wanted]
        found = 0.0
        for begin in range(0, len(positions), SLICE):
            some = positions[begin : begin + SLICE]
            expected = self._head(hidden[some]).log_softmax(-1)
            for at, row in zip(some, expected, strict=True):
                for token, said in (asked[at] or {}).items():
                    found = max(found, abs(float(row[token]) - said.logprob))
        return found


@pytest.fixture(scope="module")
def reference(real_model: Path) -> Reference:
    return Reference(real_model)


@pytest.fixture(scope="module")
def llm(real_model: Path) -> Iterator[LLM]:
    """Steps of 64 tokens: a long prompt takes dozens, beside the answers of short ones.

    What is asked for the log-probabilities of its prompt finds nothing in the prefix cache.
    """
    stepwise = {"max_num_batched_tokens": 64, "enable_chunked_prefill": True}
    with engine(real_model, **ENGINE, **stepwise, enable_prefix_caching=True) as llm:
        yield llm


def largest(
    llm: LLM, reference: Reference, prompts: Sequence[Sequence[int]], *, prompts_too: bool = True
) -> float:
    """The largest difference over all prompts, which are given to vLLM at once."""
    params = SamplingParams(
        temperature=0,
        max_tokens=GENERATED,
        ignore_eos=True,
        logprobs=TOP,
        prompt_logprobs=TOP if prompts_too else None,
    )
    requests = [{"prompt_token_ids": [*prompt]} for prompt in prompts]
    worst = 0.0
    for prompt, output in zip(prompts, llm.generate(requests, params, use_tqdm=False), strict=True):
        answer = output.outputs[0]
        assert len(answer.token_ids) == GENERATED
        before = (output.prompt_logprobs or [None] * len(prompt))[1:]
        assert len([row for row in before if row]) == (len(prompt) - 1 if prompts_too else 0)
        asked = [*before, *answer.logprobs]
        worst = max(worst, reference.worst([*prompt, *answer.token_ids], asked))
    return worst


def test_it_is_our_model(llm: LLM) -> None:
    assert llm.collective_rpc("loaded_model_class") == ["gemma3_model.text.Gemma3ForCausalLM"]


@pytest.mark.parametrize(
    "lengths",
    [
        LENGTHS,
        pytest.param(MORE_LENGTHS, marks=pytest.mark.long),
        pytest.param((5, LONGEST), marks=pytest.mark.long),
    ],
)
def test_prompts_of_all_lengths_at_once(
    llm: LLM, reference: Reference, lengths: Sequence[int]
) -> None:
    assert largest(llm, reference, [tale(length) for length in lengths]) < TOLERANCE


@pytest.mark.long
def test_many_scripts(llm: LLM, reference: Reference) -> None:
    prompts = [written(code, llm.get_tokenizer()) for code in SCRIPTS]
    assert largest(llm, reference, prompts) < TOLERANCE


def test_what_the_prefix_cache_gives(llm: LLM, reference: Reference) -> None:
    begin, end = tale(700), tale(750)[700:]
    for prompt in (begin, [*begin, *end], [*begin[:600], *end]):
        assert largest(llm, reference, [prompt], prompts_too=False) < TOLERANCE
    (again,) = llm.generate([{"prompt_token_ids": begin}], use_tqdm=False)
    assert again.num_cached_tokens, "the prefix was computed again"


@pytest.mark.long
def test_two_processes(real_model: Path, reference: Reference) -> None:
    with unbound(), engine(real_model, **ENGINE, tensor_parallel_size=2) as llm:
        assert len(llm.collective_rpc("loaded_model_class")) == 2
        prompts = [tale(length) for length in (1, 40, 700)]
        assert largest(llm, reference, prompts) < TOLERANCE


@contextmanager
def rope_base_of_global_layers_a_little_off(llm: LLM) -> Iterator[None]:
    """The tables by which the running model rotates, with a base that is 1 % larger."""

    def of_global_layers(worker: Any) -> set[Any]:
        layers = worker.model_runner.model.model.layers
        rotations = {layer.self_attn.rotary_emb for layer in layers}
        return {rotation for rotation in rotations if rotation.base > LOCAL_BASE}

    ((rotation,),) = llm.collective_rpc(of_global_layers)
    right = rotation.cos_sin_cache
    rotation.base *= 1.01
    rotation.cos_sin_cache = rotation._compute_cos_sin_cache().to(right.dtype)
    try:
        yield
    finally:
        rotation.base /= 1.01
        rotation.cos_sin_cache = right
        assert llm.reset_prefix_cache()


def test_the_comparison_sees_another_rope_base(llm: LLM, reference: Reference) -> None:
    with rope_base_of_global_layers_a_little_off(llm):
        found = largest(llm, reference, [tale(40)])
    print(f"{found:.4f}")
    assert found > 2 * TOLERANCE
    assert largest(llm, reference, [tale(40)]) < TOLERANCE


@pytest.mark.long
def test_the_comparison_sees_a_window_one_too_long(
    real_model: Path, reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = attention.layer_window
    monkeypatch.setattr(
        attention,
        "layer_window",
        lambda config, layer: (window := right(config, layer)) and window + 1,
    )
    with engine(real_model, **ENGINE) as llm:
        found = largest(llm, reference, [tale(530)])
    print(f"{found:.4f}")
    assert found > 2 * TOLERANCE
