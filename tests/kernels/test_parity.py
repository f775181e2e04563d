"""The numbers are transformers' on what vLLM runs on CUDA: its Triton attention, Model Runner V2.

On Hopper heads of 256, as 4B and 12B have them, get a composite: Triton where a step has an image,
FlashAttention where it has none. That one has no interpreter: Triton takes its part here and is
shown no image, so that a step on the wrong way is seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from vllm import LLM, SamplingParams
from vllm.v1.attention.backend import AttentionBackend, CommonAttentionMetadata
from vllm.v1.attention.backends.composite import (
    MMPrefixAttentionRouting,
    create_composite_attention_backend,
)
from vllm.v1.attention.backends.triton_attn import (
    TritonAttentionBackend,
    TritonAttentionMetadata,
    TritonAttentionMetadataBuilder,
)

from gemma3_model import attention, model
from tests.gemma3_model import checkpoints
from tests.gemma3_model.parity import (
    Prompt,
    Reference,
    attention_backends,
    difference,
    engine,
    forked,
    run,
)
from tests.gemma3_model.test_parallel import make_buffer
from tests.gemma3_model.test_parity import PROMPTS, TOLERANCE, TURN, sample_image, worst


class _CausalBuilder(TritonAttentionMetadataBuilder):
    def build(
        self,
        common_prefix_len: int,
        common_attn_metadata: CommonAttentionMetadata,
        fast_build: bool = False,
    ) -> TritonAttentionMetadata:
        blind = replace(common_attn_metadata, mm_req_doc_ranges=None)
        return super().build(common_prefix_len, blind, fast_build)


class CausalBackend(TritonAttentionBackend):
    """Sees no images, as FlashAttention 3."""

    @staticmethod
    def get_builder_cls() -> type[TritonAttentionMetadataBuilder]:
        return _CausalBuilder


def hopper_composite() -> type[AttentionBackend]:
    return create_composite_attention_backend(
        TritonAttentionBackend,
        CausalBackend,
        name="HopperComposite",
        backend_name="TRITON_FLASH_ATTN",
        module=__name__,
        routing_policy=MMPrefixAttentionRouting,
    )


def triton() -> type[AttentionBackend]:
    return TritonAttentionBackend


def small(folder: Path, **changes: Any) -> Path:
    """One layer of each kind and a local one behind them: the interpreter is slow."""
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    return checkpoints.multimodal(folder, num_hidden_layers=3, layer_types=kinds, **changes)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small(tmp_path_factory.mktemp("window-24"), sliding_window=24)


@pytest.fixture(scope="module")
def reference(checkpoint: Path) -> Reference:
    return Reference(checkpoint)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Any:
    """An engine with a backend."""

    @contextmanager
    def started(folder: Path, backend: Any, **settings: Any) -> Iterator[LLM]:
        monkeypatch.setattr(attention, "attention_backend", backend)
        with engine(folder, **settings) as llm:
            asked_for = f"{backend().__module__}.{backend().__qualname__}"
            assert attention_backends(llm) == [asked_for]
            assert llm.llm_engine.vllm_config.use_v2_model_runner
            yield llm

    return started


@pytest.mark.parametrize("backend", [hopper_composite, triton])
def test_images_and_texts_in_one_batch(
    checkpoint: Path, reference: Reference, runs: Any, backend: Any
) -> None:
    """In steps of 64 tokens, so that some have images, some text alone, and some both."""
    names = ["no image", "one", "adjacent"]
    with runs(checkpoint, backend, max_num_batched_tokens=64, max_num_seqs=4) as llm:
        differences = worst(llm, reference, names)
    assert max(differences.values()) < TOLERANCE, differences


def test_an_image_longer_than_the_window(tmp_path: Path, runs: Any) -> None:
    folder = small(tmp_path, sliding_window=5)
    with runs(folder, triton) as llm:
        differences = worst(llm, Reference(folder), ["one", "adjacent"])
    assert max(differences.values()) < TOLERANCE, differences


def test_pipeline_parallel(checkpoint: Path, reference: Reference) -> None:
    """The second process has no tower and must know of images all the same."""
    with forked(), engine(checkpoint, pipeline_parallel_size=2) as llm:
        assert llm.llm_engine.vllm_config.use_v2_model_runner
        assert len(llm.collective_rpc(make_buffer)) == 2
        differences = worst(llm, reference, ["no image", "one", "three"])
    assert max(differences.values()) < TOLERANCE, differences


def test_prefix_cache(checkpoint: Path, reference: Reference, runs: Any) -> None:
    """A prompt again, of which the cache holds a block that ends inside the image."""
    text = TURN.format("a red circle. " * 4 + "<start_of_image>")
    prompts = [Prompt(text=text, images=(sample_image(seed),)) for seed in (2, 2, 3)]
    settings = {"enable_prefix_caching": True, "prefix_cache_retention_interval": None}
    with runs(checkpoint, hopper_composite, **settings) as llm:
        outputs = [run(llm, [prompt], prompt_logprobs=False)[0] for prompt in prompts]
        state = llm.llm_engine.model_executor.driver_worker.worker.model_runner.model_state
        assert len(state._ranges) <= 1, "requests that are done are kept"
    soft = reference.model.config.image_token_id
    first = outputs[0].prompt_token_ids.index(soft)
    assert first < 32 < first + checkpoints.SOFT_TOKENS
    assert [output.num_cached_tokens for output in outputs] == [0, 32, 0]
    for prompt, output in zip(prompts, outputs, strict=True):
        assert difference(reference, prompt, output).worst < TOLERANCE


def test_weighed_words(checkpoint: Path, reference: Reference, runs: Any) -> None:
    """The log-probabilities of named tokens, which moderation asks of V2's own sampler."""
    prompt, words = PROMPTS["one"], [11, 300, 4]
    params = SamplingParams(max_tokens=1, temperature=0, logprob_token_ids=words)
    with runs(checkpoint, hopper_composite) as llm:
        request = {
            "prompt_token_ids": llm.get_tokenizer().encode(prompt.text, add_special_tokens=False),
            "multi_modal_data": {"image": list(prompt.images)},
        }
        (output,) = llm.generate([request], params, use_tqdm=False)
    _, expected = reference.logprobs(prompt, output.outputs[0].token_ids)
    for word in words:
        seen = output.outputs[0].logprobs[0][word].logprob
        assert seen == pytest.approx(float(expected[-2][word]), abs=TOLERANCE)


def _always_causal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MMPrefixAttentionRouting, "select", lambda *_: 1)


def _unclamped(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = attention.Attention
    monkeypatch.setattr(
        attention,
        "Attention",
        lambda *args, **kwargs: layer(*args, **{**kwargs, "mm_prefix_clamp_sliding_window": False}),
    )


def _vllm_s_own_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(model.Gemma3ForConditionalGeneration, "get_model_state_cls")


@pytest.mark.parametrize(
    ("fault", "window"), [(_always_causal, 24), (_unclamped, 5), (_vllm_s_own_state, 5)]
)
def test_the_comparison_sees_a_fault(
    tmp_path: Path, runs: Any, monkeypatch: pytest.MonkeyPatch, fault: Any, window: int
) -> None:
    folder = small(tmp_path, sliding_window=window)
    fault(monkeypatch)
    with runs(folder, hopper_composite) as llm:
        seen = worst(llm, Reference(folder), ["one"])["one"]
    assert seen > 10 * TOLERANCE
