"""The speed table: ours and vLLM's own model, one after the other on the same machine.

Weights are dummies and images are noise: the work is the same as with real ones. Rows are all
given at once and end at the token limit. Images are rendered beforehand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
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
    tower_batches: Sequence[int] = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Of one model: rows or images a second, its CUDA graphs, and how its tower runs.

    ``batches`` has images a second of the tower alone by how many it is given at once, and
    ``steps`` what other ways to compute it would be worth; both only where they are asked for.
    """

    name: str
    model_class: str
    translations: float
    captions: float
    one_token: float
    tower: float
    graphs: Mapping[str, Any]
    tower_state: Mapping[str, Any] = field(default_factory=dict)
    batches: Mapping[int, float] = field(default_factory=dict)
    steps: Sequence[Mapping[str, Any]] = ()


def rates(
    model: Path,
    size: Size,
    *,
    ours: bool = True,
    name: str = "ours",
    tower_steps: bool = False,
    **engine: Any,
) -> Rates:
    """Measure one model, or one way to run ours, in an engine of its own."""
    with worker(model, ours=ours, **{**ENGINE, **engine}) as started:
        found = _rates(started, size, name)
        if ours:
            found = replace(found, tower_state=started.ask("tower_state"))
        return _with_tower(started, size, found) if tower_steps else found


def _with_tower(engine: Worker, size: Size, found: Rates) -> Rates:
    repeated = {"repetitions": size.tower_repetitions}
    seconds = {n: engine.ask("tower", batch=n, **repeated) for n in size.tower_batches}
    steps = engine.ask("tower_steps", batch=size.tower_batch, **repeated)
    return replace(found, batches={n: 1 / each for n, each in seconds.items()}, steps=steps)


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
    "| | translations/s | captions/s | one token/s | tower, images/s | tower runs as "
    "| CUDA graphs |\n| --- | --- | --- | --- | --- | --- | --- |"
)


def line(rates: Rates) -> str:
    """Of a Markdown table under :data:`HEAD`."""
    state = rates.tower_state
    runs_as = "-"
    if state:
        runs_as = f"{state['attention']}, {'compiled' if state['compiled'] else 'not compiled'}"
    return (
        f"| {rates.name} | {rates.translations:.1f} | {rates.captions:.1f} | "
        f"{rates.one_token:.1f} | {rates.tower:.1f} | {runs_as} | {rates.graphs['mode']}, "
        f"{rates.graphs['full']} full |"
    )


def tower_table(rates: Rates, batch: int) -> str:
    """Images a second of the tower alone: by the size of a batch, and computed in other ways."""
    sizes = ", ".join(f"{count} at once {found:.1f}" for count, found in rates.batches.items())
    lines = [f"The tower alone, images/s: {sizes}.", "", STEPS_HEAD.format(batch=batch)]
    for step in rates.steps:
        if "fault" in step:
            lines.append(f"| {step['name']} | {step['fault']} | |")
        else:
            found = batch / step["seconds"]
            lines.append(f"| {step['name']} | {found:.1f} | {step['difference']:.1e} |")
    return "\n".join(lines)


STEPS_HEAD = (
    "| the tower, {batch} images at once | images/s | largest difference of its features |\n"
    "| --- | --- | --- |"
)
