"""vLLM's real schedulers, and ours, around a model that is only said to have answered."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from vllm import LLMEngine, SamplingParams
from vllm.config import VllmConfig
from vllm.engine.arg_utils import EngineArgs
from vllm.utils.hashing import sha256
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine import EngineCoreOutput
from vllm.v1.kv_cache_interface import (
    FullAttentionSpec,
    KVCacheConfig,
    KVCacheGroupSpec,
    SlidingWindowSpec,
)
from vllm.v1.outputs import LogprobsLists, ModelRunnerOutput
from vllm.v1.request import Request
from vllm.v1.structured_output import StructuredOutputManager

BLOCK_SIZE = 8
NUM_BLOCKS = 4096
STEP = 40
WINDOW = 24

Over = tuple[type[Scheduler], ...]
"""What is put over vLLM's scheduler, which may be nothing."""


def configure(
    checkpoint: Path, *, runs_ahead: bool, blocks: int = NUM_BLOCKS, **settings: Any
) -> VllmConfig:
    config = EngineArgs(
        model=str(checkpoint),
        dtype="float32",
        max_model_len=1024,
        max_num_batched_tokens=STEP,
        max_num_seqs=8,
        enable_prefix_caching=True,
        **settings,
    ).create_engine_config()
    # vLLM turns it off on a CPU and on by default on a GPU, after our rules and before this.
    config.scheduler_config.async_scheduling = runs_ahead
    config.cache_config.num_gpu_blocks = blocks
    return config


def made(name: str, ids: list[int], params: SamplingParams, **settings: Any) -> Request:
    """A request as the engine core makes it."""
    init_none_hash(sha256)
    hasher = get_request_block_hasher(BLOCK_SIZE, sha256)
    return Request(name, ids, params, None, block_hasher=hasher, **settings)


def build(
    config: VllmConfig,
    over: Over | None = None,
    *,
    windows: Sequence[int | None] = (None,),
    block_sizes: Sequence[int] = (BLOCK_SIZE,),
    log_stats: bool = False,
) -> Scheduler:
    """As vLLM's engine core does.

    Args:
        config: The engine.
        over: Over vLLM's scheduler; by default the engine decides.
        windows: Of each group of layers; None sees all.
        block_sizes: Of each group, or one for all.
        log_stats: Whether the engine keeps statistics.
    """
    runs_ahead = config.scheduler_config.async_scheduling
    make: Callable[..., Scheduler] = (
        config.scheduler_config.get_scheduler_cls()
        if over is None
        else type("Made", (*over, AsyncScheduler if runs_ahead else Scheduler), {})
    )
    sizes = block_sizes if len(block_sizes) > 1 else [*block_sizes] * len(windows)
    groups = [
        KVCacheGroupSpec([f"layer {number}"], _spec(window, size))
        for number, (window, size) in enumerate(zip(windows, sizes, strict=True))
    ]
    return make(
        vllm_config=config,
        kv_cache_config=KVCacheConfig(
            num_blocks=config.cache_config.num_gpu_blocks,
            kv_cache_tensors=[],
            kv_cache_groups=groups,
        ),
        structured_output_manager=StructuredOutputManager(config),
        include_finished_set=False,
        log_stats=log_stats,
        block_size=max(sizes),
        hash_block_size=min(sizes),
    )


def _spec(window: int | None, block_size: int) -> FullAttentionSpec | SlidingWindowSpec:
    own: dict[str, Any] = {
        "block_size": block_size,
        "num_kv_heads": 1,
        "head_size": 32,
        "dtype": torch.float32,
    }
    return SlidingWindowSpec(sliding_window=window, **own) if window else FullAttentionSpec(**own)


def reschedule(engine: LLMEngine, over: Over) -> Scheduler:
    """Give an idle engine, whose core is in this process, a new scheduler and an empty cache."""
    core = engine.engine_core.engine_core
    assert not core.scheduler.has_unfinished_requests()
    base = AsyncScheduler if core.async_scheduling else Scheduler
    core.scheduler = type("Made", (*over, base), {})(
        vllm_config=core.vllm_config,
        kv_cache_config=core.scheduler.kv_cache_config,
        structured_output_manager=core.structured_output_manager,
        block_size=core.scheduler.block_size,
        hash_block_size=core.scheduler.hash_block_size,
    )
    return core.scheduler


@dataclass(kw_only=True)
class Seen:
    """What a scheduler planned and sent."""

    steps: list[object] = field(default_factory=list)
    sent: list[EngineCoreOutput] = field(default_factory=list)
    sending_steps: int = 0

    def ends(self) -> dict[str, tuple[list[int], str, object]]:
        """Tokens, finish reason and stop reason of each request, whichever way they came."""
        tokens: dict[str, list[int]] = {}
        ends = {}
        for output in self.sent:
            tokens.setdefault(output.request_id, []).extend(output.new_token_ids)
            if output.finish_reason is not None:
                reason = str(output.finish_reason), output.stop_reason
                ends[output.request_id] = (tokens[output.request_id], *reason)
        return ends


def run(
    scheduler: Scheduler,
    requests: Iterable[Request],
    answers: Mapping[str, Sequence[int]],
    *,
    each_step: Callable[[int], None] = lambda _: None,
    logprobs: Mapping[str, Sequence[float]] | None = None,
) -> Seen:
    """All steps until every request has ended, a new one coming with each.

    Args:
        scheduler: Sync, or one that runs ahead.
        requests: In the order in which they come.
        answers: The token after each of a request's others, by its name.
        each_step: Called with the number of the step before it is planned.
        logprobs: The log-probability of each token of the answers, if the model tells.
    """
    coming = deque(requests)
    in_flight: deque[tuple[SchedulerOutput, dict[str, int]]] = deque()
    seen = Seen()
    for number in range(3000):
        each_step(number)
        if coming:
            scheduler.add_request(coming.popleft())
        output = scheduler.schedule()
        seen.steps.append(_plan(output))
        in_flight.append((output, _answering(scheduler, output)))
        if len(in_flight) > int(isinstance(scheduler, AsyncScheduler)):
            step, answering = in_flight.popleft()
            sent = scheduler.update_from_output(step, _answer(step, answering, answers, logprobs))
            seen.sending_steps += bool(sent)
            seen.sent += [out for each in sent.values() for out in each.outputs]
        if not coming and not scheduler.has_unfinished_requests():
            return seen
    raise AssertionError("not every request was served")


def _plan(output: SchedulerOutput) -> object:
    """All that the model is told of a step."""
    cached = output.scheduled_cached_reqs
    return (
        dict(output.num_scheduled_tokens),
        [(new.req_id, new.block_ids, new.num_computed_tokens) for new in output.scheduled_new_reqs],
        [*zip(cached.req_ids, cached.new_block_ids, cached.num_computed_tokens, strict=True)],
        sorted(cached.resumed_req_ids),
        sorted(output.finished_req_ids),
    )


def _answering(scheduler: Scheduler, output: SchedulerOutput) -> dict[str, int]:
    """Which token of its answer each request gets from a step, if it gets one."""
    places = {}
    for name in output.num_scheduled_tokens:
        request = scheduler.requests[name]
        begun = request.num_output_tokens + max(request.num_output_placeholders - 1, 0)
        if request.num_computed_tokens >= request.num_prompt_tokens + begun:
            places[name] = request.num_computed_tokens - request.num_prompt_tokens
    return places


def _answer(
    step: SchedulerOutput,
    answering: Mapping[str, int],
    answers: Mapping[str, Sequence[int]],
    logprobs: Mapping[str, Sequence[float]] | None,
) -> ModelRunnerOutput:
    names = list(step.num_scheduled_tokens)
    told = None
    if logprobs is not None:
        own = [[logprobs[name][answering.get(name, 0)]] for name in names]
        ids = [[answers[name][answering.get(name, 0)]] for name in names]
        told = LogprobsLists(np.array(ids), np.array(own), np.zeros(len(names), int))
    return ModelRunnerOutput(
        req_ids=names,
        req_id_to_index={name: place for place, name in enumerate(names)},
        sampled_token_ids=[
            [answers[name][answering[name]]] if name in answering else [] for name in names
        ],
        logprobs=told,
    )
