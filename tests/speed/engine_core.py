"""What vLLM's engine core itself costs a step, without a model: ``make bench-core``.

The layers and the cache are Gemma 3 4B's, the device takes no time (see
:mod:`tests.speed.timed_device`), and all rows are given at once. Counted is the processor time of
the one thread that schedules, takes in the answers and detokenizes them, which a busy machine
disturbs less than the clock; the fastest of some turns is shown. Steps at the begin and the end are
in the mean. Per step:

``schedule``, ``update``: vLLM's scheduler before and after the device.
``front end``: from the engine core's outputs to texts.
``rest``: what is left of a step.
``sent``: to encode the outputs and decode them, as where the engine core is a process of its own;
not part of the sum.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from transformers import Gemma3Config
from vllm import LLMEngine, SamplingParams
from vllm.engine.arg_utils import EngineArgs
from vllm.plugins import load_general_plugins
from vllm.sampling_params import RepetitionDetectionParams, RequestOutputKind
from vllm.usage.usage_lib import UsageContext
from vllm.v1.engine import EngineCoreOutputs
from vllm.v1.serial_utils import MsgpackDecoder, MsgpackEncoder

from gemma3_model import scheduling
from gemma3_model.scheduling.block_borders import BlockBorders
from gemma3_model.scheduling.final_outputs import FinalOutputs
from gemma3_model.scheduling.loops import Loops
from gemma3_model.scheduling.prompt_cache import PromptCache
from pipeline.engine.vllm_sampling import LOOP_COUNT, LOOP_TOKENS
from tests.gemma3_model import checkpoints
from tests.gemma3_model.scheduling.steps import Over, reschedule
from tests.speed.measures import FIRST_PLAIN_ID
from tests.speed.timed_device import TimedDevice

PARTS = ("schedule", "update", "front end", "rest")
SHAPE = {
    "num_hidden_layers": 34,
    "hidden_size": 2560,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "sliding_window": 1024,
}
"""Gemma 3 4B's."""
VARIANTS: dict[str, Over] = {
    "vLLM's": (),
    "block borders": (BlockBorders,),
    "final outputs": (FinalOutputs,),
    "loops": (Loops,),
    "prompt cache": (PromptCache,),
    "without prompt cache": tuple(part for part in scheduling.PARTS if part is not PromptCache),
    "ours": scheduling.PARTS,
}
"""What is put over vLLM's scheduler."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """Rows given at once, of equal lengths."""

    rows: int
    tokens_in: int = 226
    tokens_out: int = 200
    ends_loops: bool = True

    def requests(self) -> Iterator[tuple[str, list[int], SamplingParams]]:
        """Name, prompt and parameters of each row, as our jobs ask."""
        chance = np.random.default_rng(0)
        loops = RepetitionDetectionParams(max_pattern_size=LOOP_TOKENS, min_count=LOOP_COUNT)
        for row in range(self.rows):
            ids = chance.integers(FIRST_PLAIN_ID, FIRST_PLAIN_ID + 400, self.tokens_in)
            yield (
                str(row),
                ids.tolist(),
                SamplingParams(
                    temperature=0.0,
                    max_tokens=self.tokens_out,
                    ignore_eos=True,
                    repetition_detection=loops if self.ends_loops else None,
                    output_kind=RequestOutputKind.FINAL_ONLY,
                ),
            )


@dataclass(kw_only=True)
class Cost:
    """Seconds on the processor by part over all steps, and what came out."""

    steps: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    sent: float = 0.0
    sent_bytes: int = 0
    outputs: int = 0
    adding: float = 0.0
    answers: dict[str, tuple[str, tuple[int, ...], str | None]] = field(default_factory=dict)

    def milliseconds(self) -> list[float]:
        """A step's, by part, then their sum and what sending would take."""
        parts = [self.seconds[part] for part in PARTS]
        return [1e3 * each / self.steps for each in [*parts, sum(parts), self.sent]]


@contextmanager
def timed_engine(folder: Path, *, rows: int, ahead: bool, **settings: Any) -> Iterator[LLMEngine]:
    """An engine around a timed device, its core in this process.

    Args:
        folder: A checkpoint; of its weights there need be none.
        rows: Most rows in flight.
        ahead: Whether steps are scheduled before the last one's tokens are known, as on a GPU.
        **settings: Further arguments of the engine.
    """
    load_general_plugins()
    own = {
        "max_model_len": 2048,
        "max_num_batched_tokens": 16384,
        "block_size": 16,
        "enable_prefix_caching": True,
        "enforce_eager": True,
        **settings,
    }
    config = EngineArgs(
        model=str(folder),
        max_num_seqs=rows,
        distributed_executor_backend=TimedDevice,
        **own,
    ).create_engine_config(UsageContext.LLM_CLASS)
    config.scheduler_config.async_scheduling = ahead  # vLLM turns it off on a CPU
    engine = LLMEngine(
        vllm_config=config, executor_class=TimedDevice, log_stats=False, multiprocess_mode=False
    )
    try:
        yield engine
    finally:
        engine.engine_core.shutdown()


def measure(engine: LLMEngine, work: Work) -> Cost:
    """Run the rows through the engine, step by step."""
    cost = Cost()
    with _watched(engine, cost) as device:
        begin = time.thread_time()
        for name, ids, params in work.requests():
            engine.add_request(name, {"prompt_token_ids": ids}, params)
        cost.adding = time.thread_time() - begin
        begin = time.thread_time()
        # A core that runs ahead has planned one more step than there was work for.
        while engine.has_unfinished_requests() or engine.engine_core.engine_core.batch_queue:
            for done in engine.step():
                (answer,) = done.outputs
                cost.answers[done.request_id] = (
                    answer.text,
                    tuple(answer.token_ids),
                    answer.finish_reason,
                )
        whole = time.thread_time() - begin - device[0] - cost.sent
    cost.seconds["rest"] = whole - sum(cost.seconds.values())
    return cost


@contextmanager
def _watched(engine: LLMEngine, cost: Cost) -> Iterator[list[float]]:
    """Count each part's time; yields the device's own, which is nobody's."""
    core = engine.engine_core.engine_core
    encoder, decoder = MsgpackEncoder(), MsgpackDecoder(EngineCoreOutputs)
    device = [0.0]

    def timed(owner: object, name: str, spent: Callable[[float], None]) -> Callable[..., Any]:
        run = getattr(owner, name)

        def wrapped(*args: Any, **options: Any) -> Any:
            begin = time.thread_time()
            try:
                return run(*args, **options)
            finally:
                spent(time.thread_time() - begin)

        setattr(owner, name, wrapped)
        return wrapped

    def part(name: str) -> Callable[[float], None]:
        def spent(seconds: float) -> None:
            cost.seconds[name] += seconds
            cost.steps += name == "update"

        return spent

    def of_device(seconds: float) -> None:
        device[0] += seconds

    timed(core.scheduler, "schedule", part("schedule"))
    update = timed(core.scheduler, "update_from_output", part("update"))
    timed(engine.output_processor, "process_outputs", part("front end"))
    for name in ("execute_model", "sample_tokens"):
        timed(core.model_executor, name, of_device)

    def update_and_send(*args: Any) -> Any:
        outputs = update(*args)
        begin = time.thread_time()
        for each in outputs.values():
            cost.outputs += len(each.outputs)
            frames = encoder.encode(each)
            cost.sent_bytes += sum(len(memoryview(frame).cast("B")) for frame in frames)
            decoder.decode(frames)
        cost.sent += time.thread_time() - begin
        return outputs

    core.scheduler.update_from_output = update_and_send
    yield device
    for owner, names in (
        (core.scheduler, ("schedule", "update_from_output")),
        (engine.output_processor, ("process_outputs",)),
        (core.model_executor, ("execute_model", "sample_tokens")),
    ):
        for name in names:
            delattr(owner, name)


def write_checkpoint(folder: Path) -> Path:
    """The configuration and the tokenizer of a model of `SHAPE`, without weights."""
    demo = Gemma3Config.from_pretrained(checkpoints.DEMO)
    config = checkpoints.text_config(demo, architectures=["Gemma3ForCausalLM"], **SHAPE)
    config.save_pretrained(folder)
    return checkpoints.with_tokenizer(folder)


def fastest(engine: LLMEngine, work: Work, variants: list[str], turns: int) -> dict[str, Cost]:
    """The turn of each variant that the rest of the machine disturbed least; they take turns."""
    best: dict[str, Cost] = {}
    for _ in range(turns):
        for name in variants:
            reschedule(engine, VARIANTS[name])
            cost = measure(engine, work)
            if name not in best or cost.milliseconds()[4] < best[name].milliseconds()[4]:
                best[name] = cost
    return best


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=[*VARIANTS])
    parser.add_argument("--tokens-out", type=int, default=200)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--block-size", type=int, default=16)
    parser.add_argument("--groups", nargs="+", choices=("hybrid", "one"), default=["hybrid", "one"])
    parser.add_argument("--ahead", nargs="+", type=int, choices=(0, 1), default=[0, 1])
    arguments = parser.parse_args()
    console = Console(width=140)
    columns = ("rows", "groups", "ahead", "scheduler", *PARTS, "sum", "sent", "adding, ms a row")
    table = Table(*columns, title="ms of processor time a step")
    with tempfile.TemporaryDirectory() as folder:
        model = write_checkpoint(Path(folder))
        for groups in arguments.groups:
            for ahead in arguments.ahead:
                with timed_engine(
                    model,
                    rows=max(arguments.rows),
                    ahead=bool(ahead),
                    block_size=arguments.block_size,
                    disable_hybrid_kv_cache_manager=groups == "one",
                ) as engine:
                    for rows in arguments.rows:
                        work = Work(rows=rows, tokens_out=arguments.tokens_out)
                        found = fastest(engine, work, arguments.variants, arguments.turns)
                        for name, cost in found.items():
                            cells = [f"{each:.2f}" for each in cost.milliseconds()]
                            adding = f"{1e3 * cost.adding / rows:.2f}"
                            row = [str(rows), groups, str(ahead), name, *cells, adding]
                            console.print(*row, sep=", ")
                            table.add_row(*row)
    console.print(table)


if __name__ == "__main__":
    main()
