"""Decides which scenes are held out of the training, and writes them as the demo's input.

It needs only Pillow and pyarrow.
"""

import hashlib
import io
import itertools
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.demo.drawings import Scene, draw, sample_scene
from jobs.demo.phrases import caption

DATASET_FILE = "drawings.parquet"
JPEG_QUALITY = 90
_HELD_OUT_SHARE = 10  # one caption in ten
_SEEDS_APART = 1 << 40  # between two datasets' seeds; training uses only seeds below the first

SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("truth", pa.string()),
    ]
)
"""The image is in the form of Hugging Face datasets; `truth` is its true caption."""


def is_held_out(scene: Scene) -> bool:
    """Whether drawings with this caption are kept out of training; the caption's hash decides."""
    digest = hashlib.sha256(caption(scene).encode()).digest()
    return int.from_bytes(digest[:8], "big") % _HELD_OUT_SHARE == 0


def held_out_scenes(seed: int) -> Iterator[Scene]:
    """Endlessly many held-out scenes, the same for the same `seed` (0 or more)."""
    first = (seed + 1) * _SEEDS_APART
    return filter(is_held_out, map(sample_scene, itertools.count(first)))


def jpeg(scene: Scene) -> bytes:
    """The drawing of `scene` as the bytes of a JPEG file."""
    buffer = io.BytesIO()
    draw(scene).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def write_dataset(folder: Path, rows: int, seed: int = 0, *, row_group_size: int = 64) -> Path:
    """Write held-out drawings to `folder`/drawings.parquet; the same arguments give the same file.

    Args:
        folder: The folder; it is made if it does not exist.
        rows: How many drawings.
        seed: Another seed gives other drawings; 0 or more.
        row_group_size: Rows in each row group of the file.

    Returns:
        The path of the file.

    Raises:
        FileExistsError: There is such a file already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / DATASET_FILE
    scenes = enumerate(itertools.islice(held_out_scenes(seed), rows))
    with path.open("xb") as file, pq.ParquetWriter(file, SCHEMA) as writer:
        while batch := list(itertools.islice(scenes, row_group_size)):
            records = [_record(number, scene) for number, scene in batch]
            writer.write_table(pa.Table.from_pylist(records, schema=SCHEMA))
    return path


def _record(number: int, scene: Scene) -> dict[str, object]:
    name = f"drawing-{number:05}.jpg"
    image = {"bytes": jpeg(scene), "path": name}
    return {"name": name, "image": image, "truth": caption(scene)}
