"""The speed table: ours and vLLM's own model, one after the other on the same machine.

Weights are dummies and images are noise: the work is the same as with real ones. Rows are all
given at once and end at the token limit. Images are rendered beforehand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.speed.worker import Worker, worker

ENGINE: Mapping[str, Any] = {
    "load_format": "dummy",
    "dtype": "bfloat16",
    "max_model_len": 2048,
    "limit_mm_per_prompt": {"image": 1},
    "enable_prefix_caching": False,
    "mm_processor_cache_gb": 8,
    "seed": 0,
}


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is measured; a CPU takes less of everything."""

    translations: int = 256
    translation_tokens: int = 200
    captions: int = 256
    caption_tokens: int = 64
    tower_batch: int = 16
    tower_repetitions: int = 8


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Of one model: rows or images a second, and its CUDA graphs."""

    name: str
    model_class: str
    translations: float
    captions: float
    one_token: float
    tower: float
    graphs: Mapping[str, Any]


def rates(
    model: Path, size: Size, *, ours: bool = True, name: str = "ours", **engine: Any
) -> Rates:
    """Measure one model, or one way to run ours, in an engine of its own."""
    with worker(model, ours=ours, **{**ENGINE, **engine}) as started:
        return _rates(started, size, name)


def _rates(engine: Worker, size: Size, name: str) -> Rates:
    tokens = size.translation_tokens
    text = engine.ask(
        "text", rows=size.translations, tokens_in=tokens, tokens_out=tokens, warm=False
    )
    captions, one_token = (
        size.captions / engine.ask("captions", rows=size.captions, tokens_out=tokens_out)
        for tokens_out in (size.caption_tokens, 1)
    )
    return Rates(
        name=name,
        model_class=engine.model_class,
        translations=size.translations / text,
        captions=captions,
        one_token=one_token,
        tower=1 / engine.ask("tower", batch=size.tower_batch, repetitions=size.tower_repetitions),
        graphs=engine.ask("graphs"),
    )


HEAD = (
    "| | translations/s | captions/s | one token/s | tower, images/s | CUDA graphs |\n"
    "| --- | --- | --- | --- | --- | --- |"
)


def line(rates: Rates) -> str:
    """Of a Markdown table under :data:`HEAD`."""
    return (
        f"| {rates.name} | {rates.translations:.1f} | {rates.captions:.1f} | "
        f"{rates.one_token:.1f} | {rates.tower:.1f} | {rates.graphs['mode']}, "
        f"{rates.graphs['full']} full |"
    )
