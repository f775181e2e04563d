"""The same prompts through our model inside vLLM and through transformers in float32."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor
from vllm import LLM, SamplingParams, envs
from vllm.config import set_current_vllm_config
from vllm.distributed import (
    cleanup_dist_env_and_memory,
    init_distributed_environment,
    initialize_model_parallel,
)
from vllm.engine.arg_utils import EngineArgs
from vllm.lora.request import LoRARequest
from vllm.model_executor.model_loader.utils import initialize_model
from vllm.plugins import load_general_plugins
from vllm.utils.torch_utils import set_default_torch_dtype
from vllm.v1.executor import multiproc_executor

from gemma3_model.registration import register_loaded

NUM_GENERATED = 8
TOP = 20


@dataclass(frozen=True, kw_only=True)
class Prompt:
    text: str
    images: tuple[Image.Image, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the processor, the same for vLLM's and for transformers'."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Largest absolute difference of log-probabilities, in nats."""

    prompt: float
    generated: float

    @property
    def worst(self) -> float:
        return max(self.prompt, self.generated)


@contextmanager
def engine(model: Path, **settings: Any) -> Iterator[LLM]:
    """A vLLM engine in this process, gone when the block ends."""
    load_general_plugins()
    register_loaded()  # by name, vLLM would look at our class in a process of its own
    llm: LLM | None = None
    try:
        llm = LLM(
            str(model),
            **{
                "dtype": "float32",
                "enforce_eager": True,
                "max_model_len": 1024,
                "block_size": 32,
                # 16,384 tokens. All the memory it may have would first be filled with zeros.
                "num_gpu_blocks_override": 512,
                "max_logprobs": TOP,
                "enable_prefix_caching": False,
                "disable_log_stats": True,
                "worker_extension_cls": "gemma3_model.inspection.LoadedModel",
                **settings,
            },
        )
        yield llm
    finally:
        if llm is not None:
            llm.llm_engine.engine_core.shutdown()
        del llm
        cleanup_dist_env_and_memory()
        gc.collect()


def attention_backends(llm: LLM) -> list[str]:
    """``module.Class`` of every kind of attention that the decoder's layers run with, sorted."""

    def kinds(worker: Any) -> set[type]:
        layers = worker.model_runner.compilation_config.static_forward_context.values()
        return {layer.attn_backend for layer in layers if hasattr(layer, "attn_backend")}

    (found,) = llm.collective_rpc(kinds)
    return sorted(f"{kind.__module__}.{kind.__qualname__}" for kind in found)


@contextmanager
def unbound() -> Iterator[None]:
    """Engines of several processes share cores: vLLM would bind each to a NUMA node (0.32)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_CPU_OMP_THREADS_BIND", "nobind")
        envs.disable_envs_cache()  # an earlier engine of this process has read it, once and for all
        yield


@contextmanager
def forked() -> Iterator[None]:
    """Engines of several processes fork them, so that these have vLLM imported already.

    On a CPU vLLM starts them from nothing, to bind their threads to cores (0.32). What is forked
    has none of this process's threads: it must not have computed much before.
    """
    with pytest.MonkeyPatch.context() as patch, unbound():
        patch.setattr(multiproc_executor, "get_mp_context", partial(get_context, "fork"))
        yield


@contextmanager
def built(folder: Path) -> Iterator[nn.Module]:
    """Our model of a configuration on the meta device: shapes, and no memory or weights."""
    load_general_plugins()
    config = EngineArgs(
        model=str(folder),
        dtype="bfloat16",
        skip_tokenizer_init=True,
        enforce_eager=True,
        max_model_len=1024,
    ).create_engine_config()
    try:
        with set_current_vllm_config(config):
            init_distributed_environment(1, 0, f"file://{folder}/store", 0, "gloo")
            initialize_model_parallel(1, 1)
            with set_default_torch_dtype(torch.bfloat16), torch.device("meta"):
                yield initialize_model(config)
    finally:
        cleanup_dist_env_and_memory()


class Reference:
    """transformers' model and processor for a checkpoint."""

    def __init__(self, model: Path, *, has_images: bool = True) -> None:
        loader = AutoModelForImageTextToText if has_images else AutoModelForCausalLM
        self.model = loader.from_pretrained(
            model, dtype=torch.float32, attn_implementation="eager"
        ).eval()
        self.has_images = has_images
        self.processor = AutoProcessor.from_pretrained(model)

    def inputs(self, prompt: Prompt) -> dict[str, torch.Tensor]:
        if not self.has_images:
            tokenizer = self.processor.tokenizer
            return dict(tokenizer(prompt.text, add_special_tokens=False, return_tensors="pt"))
        return dict(
            self.processor(
                text=prompt.text,
                images=list(prompt.images) or None,
                add_special_tokens=False,
                return_tensors="pt",
                **prompt.options,
            )
        )

    @torch.no_grad()
    def logprobs(self, prompt: Prompt, generated: Sequence[int]) -> tuple[list[int], torch.Tensor]:
        """The prompt's ids, and [tokens, vocabulary] log-probabilities of what follows each."""
        inputs = self.inputs(prompt)
        ids = inputs["input_ids"]
        inputs["input_ids"] = torch.cat([ids, torch.tensor([list(generated)], dtype=ids.dtype)], 1)
        inputs.pop("attention_mask", None)
        if self.has_images:
            image_token = self.model.config.image_token_id
            inputs["token_type_ids"] = (inputs["input_ids"] == image_token).long()
        logits = self.model(**inputs, use_cache=False).logits[0].float()
        return ids[0].tolist(), logits.log_softmax(-1)


def run(
    llm: LLM,
    prompts: Sequence[Prompt],
    *,
    prompt_logprobs: bool = True,
    adapters: Sequence[LoRARequest | None] | None = None,
) -> list[Any]:
    """Greedy generation of eight tokens each, all prompts at once, each with its adapter."""
    params = SamplingParams(
        temperature=0,
        max_tokens=NUM_GENERATED,
        min_tokens=NUM_GENERATED,
        ignore_eos=True,
        logprobs=TOP,
        prompt_logprobs=TOP if prompt_logprobs else None,
    )
    requests = [
        {
            # Ids, so that vLLM adds no second <bos>.
            "prompt_token_ids": llm.get_tokenizer().encode(prompt.text, add_special_tokens=False),
            **({"multi_modal_data": {"image": list(prompt.images)}} if prompt.images else {}),
            **({"mm_processor_kwargs": dict(prompt.options)} if prompt.options else {}),
        }
        for prompt in prompts
    ]
    lora = list(adapters) if adapters is not None else None
    return list(llm.generate(requests, params, use_tqdm=False, lora_request=lora))


def _largest(expected: torch.Tensor, rows: Sequence[dict[int, Any] | None]) -> float:
    worst = 0.0
    for row_expected, row in zip(expected, rows, strict=True):
        for token, logprob in (row or {}).items():
            worst = max(worst, abs(float(row_expected[token]) - logprob.logprob))
    return worst


def difference(reference: Reference, prompt: Prompt, output: Any) -> Difference:
    """Compare every position of the prompt and of what was generated; ids must be equal."""
    generated = list(output.outputs[0].token_ids)
    assert len(generated) == NUM_GENERATED
    ids, expected = reference.logprobs(prompt, generated)
    assert output.prompt_token_ids == ids, "our processor and transformers' disagree on the ids"
    first = len(ids) - 1
    return Difference(
        prompt=_largest(expected[:first], output.prompt_logprobs[1:])
        if output.prompt_logprobs
        else 0.0,
        generated=_largest(expected[first:-1], output.outputs[0].logprobs),
    )
