"""A vLLM executor without a model, which only takes time: everything of vLLM's but the device.

The real scheduler, KV-cache manager, engine core and front end work around it on any machine, with
the layers, the cache and the speed of a large model on a GPU. Every answer is the same sequence of
plain ids, and nothing ends by itself. Given to an engine as ``distributed_executor_backend``.

A step takes ``TIMED_DEVICE`` = ``base,per_row,per_token`` seconds of a device that works beside the
CPU; an H200 with Gemma 3 4B takes about ``0.004,1.5e-5,1.1e-5``, and by default a step takes none.
With ``TIMED_LOG``, a file, each step adds a line when it is given: rows, tokens, and the seconds
until then of the engine core's thread and of its process on a processor, and by the clock.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from vllm.v1.core.sched.output import GrammarOutput, SchedulerOutput
from vllm.v1.executor.abstract import Executor
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheSpec, SlidingWindowSpec
from vllm.v1.kv_cache_layout import KVCacheLayout
from vllm.v1.outputs import ModelRunnerOutput

from gemma3_model.config import layer_window
from tests.speed.measures import FIRST_PLAIN_ID

CACHE_BYTES = 100 * 2**30
ANSWER_IDS = range(FIRST_PLAIN_ID, FIRST_PLAIN_ID + 400)


class TimedDevice(Executor):
    """See the module."""

    def _init_executor(self) -> None:
        self._base, self._per_row, self._per_token = map(
            float, os.environ.get("TIMED_DEVICE", "0,0,0").split(",")
        )
        log = os.environ.get("TIMED_LOG")
        self._log = open(log, "a") if log else None  # noqa: SIM115  it stays open
        self._lengths: dict[str, int] = {}
        self._free_at = 0.0
        self._pending: tuple[float, ModelRunnerOutput] | None = None
        self._wait = ThreadPoolExecutor(1)

    @classmethod
    def supports_async_scheduling(cls) -> bool:
        return True

    def collective_rpc(
        self, method: str | Callable[..., Any], *_: Any, **__: Any
    ) -> Any:  # None of its questions is asked beside a step.
        answers: dict[object, Any] = {
            "get_kv_cache_spec": [self._cache()],
            "determine_available_memory": [CACHE_BYTES],
            "get_supported_kv_cache_layouts": [[layout.name for layout in KVCacheLayout]],
            "get_supported_tasks": [("generate",)],
            "loaded_model_class": ["tests.speed.timed_device.TimedDevice"],
            "compile_or_warm_up_model": [],
        }
        return answers.get(method, [None])

    def _cache(self) -> dict[str, KVCacheSpec]:
        config = self.model_config.hf_config.get_text_config()
        size: dict[str, Any] = {
            "block_size": self.cache_config.block_size,
            "num_kv_heads": config.num_key_value_heads,
            "head_size": config.head_dim,
            "dtype": torch.bfloat16,
        }
        windows = [layer_window(config, layer) for layer in range(config.num_hidden_layers)]
        return {
            f"layers.{layer}": SlidingWindowSpec(sliding_window=window, **size)
            if window
            else FullAttentionSpec(**size)
            for layer, window in enumerate(windows)
        }

    def execute_model(self, scheduler_output: SchedulerOutput, non_block: bool = False) -> Any:
        counts = scheduler_output.num_scheduled_tokens
        now = time.perf_counter()
        if counts:
            self._write(len(counts), sum(counts.values()))
            work = self._per_row * len(counts) + self._per_token * sum(counts.values())
            self._free_at = max(self._free_at, now) + self._base + work
        self._pending = self._free_at, self._answer(scheduler_output)
        if counts:
            return _done(None) if non_block else None
        return _done(self._pending[1]) if non_block else self._pending[1]

    def sample_tokens(self, grammar_output: GrammarOutput | None, non_block: bool = False) -> Any:
        assert self._pending is not None
        ready_at, answer = self._pending
        if non_block:
            return self._wait.submit(self._ready, ready_at, answer)
        return self._ready(ready_at, answer)

    @staticmethod
    def _ready(ready_at: float, answer: ModelRunnerOutput) -> ModelRunnerOutput:
        left = ready_at - time.perf_counter()
        if left > 0:
            time.sleep(left)
        return answer

    def _answer(self, step: SchedulerOutput) -> ModelRunnerOutput:
        """A token for each row whose tokens are all computed after this step."""
        for name in step.finished_req_ids:
            self._lengths.pop(name, None)
        computed, outputs = {}, {}
        for new in step.scheduled_new_reqs:
            self._lengths[new.req_id] = len(new.prompt_token_ids)
            computed[new.req_id], outputs[new.req_id] = new.num_computed_tokens, 0
        rows = step.scheduled_cached_reqs
        for name, done, given in zip(
            rows.req_ids, rows.num_computed_tokens, rows.num_output_tokens, strict=True
        ):
            computed[name], outputs[name] = done, given
        names = list(step.num_scheduled_tokens)
        tokens = [
            [ANSWER_IDS[outputs[name] * 37 % len(ANSWER_IDS)]]
            if computed[name] + step.num_scheduled_tokens[name]
            >= self._lengths[name] + outputs[name]
            else []
            for name in names
        ]
        places = {name: place for place, name in enumerate(names)}
        return ModelRunnerOutput(req_ids=names, req_id_to_index=places, sampled_token_ids=tokens)

    def _write(self, rows: int, tokens: int) -> None:
        if self._log is None:
            return
        clocks = time.thread_time(), time.process_time(), time.perf_counter()
        self._log.write(" ".join([f"{rows} {tokens}", *(f"{each:.6f}" for each in clocks)]) + "\n")
        self._log.flush()

    def check_health(self) -> None:
        """Nothing of it can break."""


class TimedGpu(TimedDevice):
    """The device of an engine that plans a step while the last one is computed, as on a GPU."""

    def _init_executor(self) -> None:
        super()._init_executor()
        # vLLM turns it off on a CPU; its engine core reads this after it has made the executor.
        self.vllm_config.scheduler_config.async_scheduling = True


def _done(value: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(value)
    return future
