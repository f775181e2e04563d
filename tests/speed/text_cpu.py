"""Our text model beside vLLM's own on this CPU: ``make bench-model``.

The shape is Gemma 3 270M's with a small vocabulary and random weights. The two engines stand side
by side and take turns, so that what else the machine does falls on both. Each runs on one thread
and its time on the processor is counted, not the clock's. The ratio is of the fastest turn of each,
which the rest of the machine disturbed least; the median is of neighbouring turns.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.speed.worker import Worker, worker

SHAPE = {
    "hidden_size": 640,
    "intermediate_size": 2048,
    "num_hidden_layers": 18,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "query_pre_attn_scalar": 256,
    "sliding_window": 512,
    "max_position_embeddings": 8192,
}


@dataclass(frozen=True, kw_only=True)
class Work:
    """Rows of so many tokens in and out, and which of them are counted."""

    name: str
    rows: int
    tokens_in: int
    tokens_out: int

    @property
    def tokens(self) -> int:
        """Of the prompts where they are the work, else of the answers."""
        return self.rows * (self.tokens_in if self.tokens_out == 1 else self.tokens_out)


PROMPTS = tuple(
    Work(name=f"prompts of {tokens:,}", rows=max(1, 256 // tokens), tokens_in=tokens, tokens_out=1)
    for tokens in (128, 512, 1024, 2048, 4096)
)
WORKS = (*PROMPTS, Work(name="answers", rows=8, tokens_in=4, tokens_out=8))


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Seconds of neighbouring turns: ours, theirs."""

    dtype: str
    work: Work
    turns: list[tuple[float, float]]

    def row(self) -> list[str]:
        """A line of the table."""
        ours, theirs = (min(side) for side in zip(*self.turns, strict=True))
        ratios = [theirs / ours for ours, theirs in self.turns]
        return [
            self.dtype,
            self.work.name,
            f"{self.work.tokens / ours:.0f}",
            f"{self.work.tokens / theirs:.0f}",
            f"{theirs / ours:.3f}",
            f"{statistics.median(ratios):.3f}",
            f"{min(ratios):.2f} to {max(ratios):.2f}",
        ]


def compare(model: Path, dtype: str, repetitions: int, *, eager: bool) -> Iterator[Comparison]:
    """Both engines over all works, turn by turn."""
    settings = {
        "dtype": dtype,
        "max_model_len": 4200,
        "enforce_eager": eager,
        "enable_prefix_caching": False,
    }
    with worker(model, ours=True, **settings) as ours, worker(model, ours=False, **settings) as own:
        assert ours.model_class.startswith("gemma3_model."), ours.model_class
        assert own.model_class.startswith("vllm."), own.model_class
        for work in WORKS:
            for each in (ours, own):
                _seconds(each, work, warm=False)
            turns = [_turn(ours, own, work, turn) for turn in range(repetitions)]
            yield Comparison(dtype=dtype, work=work, turns=turns)


def _turn(ours: Worker, own: Worker, work: Work, turn: int) -> tuple[float, float]:
    """Each once; who goes first changes."""
    if turn % 2:
        theirs = _seconds(own, work)
        return _seconds(ours, work), theirs
    return _seconds(ours, work), _seconds(own, work)


def _seconds(engine: Worker, work: Work, *, warm: bool = True) -> float:
    seconds: float = engine.ask(
        "text",
        rows=work.rows,
        tokens_in=work.tokens_in,
        tokens_out=work.tokens_out,
        warm=warm,
        processor_time=True,
    )
    return seconds


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--eager", action="store_true", help="without torch.compile")
    arguments = parser.parse_args()
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"

    from tests.gemma3_model import checkpoints

    console = Console()
    columns = (
        "dtype",
        "tokens of",
        "ours, tokens/s",
        "vLLM's, tokens/s",
        "ratio",
        "median",
        "all ratios",
    )
    table = Table(*columns)
    with tempfile.TemporaryDirectory() as folder:
        model = checkpoints.text_only(Path(folder), **SHAPE)
        for dtype in arguments.dtypes:
            for done in compare(model, dtype, arguments.repetitions, eager=arguments.eager):
                console.print(*done.row(), sep=", ")
                table.add_row(*done.row())
    console.print(table)


if __name__ == "__main__":
    main()
