"""The rows of the end-to-end table, as parquet: photographs of a usual size, and texts."""

from __future__ import annotations

import functools
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from jobs.demo.dataset import held_out_scenes
from jobs.demo.phrases import caption
from pipeline.contract.config import EngineConfig
from pipeline.engine.renderer import GemmaRenderer

ROW_GROUP = 256


def photographs(folder: Path, rows: int, width: int = 1024, height: int = 768) -> Path:
    """Write ``rows`` JPEGs of noise, about 290 kB each at 1024x768, no two of them alike."""
    folder.mkdir(parents=True)
    make = functools.partial(photograph, width=width, height=height)
    with ThreadPoolExecutor() as pool:  # Pillow and numpy work beside each other
        images = list(pool.map(make, range(rows)))
    table = pa.table({"image": pa.array(images, pa.binary())})
    pq.write_table(table, folder / "photographs.parquet", row_group_size=ROW_GROUP)
    return folder


def photograph(seed: int, width: int, height: int) -> bytes:
    """Smooth colours with a fine grain, as a camera's; a JPEG."""
    chance = np.random.default_rng(seed)
    blocks = chance.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
    smooth = Image.fromarray(blocks).resize((width, height), Image.Resampling.BICUBIC)
    grain = chance.integers(-12, 13, (height, width, 1))
    pixels = np.clip(np.asarray(smooth).astype(np.int16) + grain, 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=88)
    return file.getvalue()


def texts(folder: Path, rows: int, *, model: Path, tokens: int) -> Path:
    """Write ``rows`` texts of at most ``tokens`` tokens, whole sentences."""
    folder.mkdir(parents=True)
    meter = GemmaRenderer(EngineConfig(model=str(model)))
    sentences = ((s, meter.count(f" {s}")) for s in map(caption, held_out_scenes(seed=0)))
    written = [_text(sentences, tokens) for _ in range(rows)]
    pq.write_table(pa.table({"text": written}), folder / "texts.parquet", row_group_size=ROW_GROUP)
    return folder


def _text(sentences: Iterator[tuple[str, int]], tokens: int) -> str:
    text, held = next(sentences)
    for sentence, count in sentences:
        held += count
        if held > tokens:
            break
        text = f"{text} {sentence}"
    return text
