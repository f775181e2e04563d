"""The demo's input: in Hugging Face datasets' form, reproducible, never trained on."""

import io
import itertools
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jobs.demo.dataset import held_out_scenes, is_held_out, write_dataset
from jobs.demo.drawings import NATIVE_SIZE, sample_scene
from jobs.demo.phrases import caption


def test_rows_are_named_images_with_their_truth(tmp_path: Path) -> None:
    path = write_dataset(tmp_path / "new", 20, seed=3, row_group_size=8)
    file = pq.ParquetFile(path)
    assert file.num_row_groups == 3
    table = file.read()
    assert table.schema.field("image").type == pa.struct(
        [("bytes", pa.binary()), ("path", pa.string())]
    )
    scenes = list(itertools.islice(held_out_scenes(3), 20))
    for number, (row, scene) in enumerate(zip(table.to_pylist(), scenes, strict=True)):
        assert row["name"] == row["image"]["path"] == f"drawing-{number:05}.jpg"
        assert row["truth"] == caption(scene)
        with Image.open(io.BytesIO(row["image"]["bytes"])) as image:
            image.load()
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", NATIVE_SIZE)


def test_the_same_seed_gives_the_same_rows(tmp_path: Path) -> None:
    tables = [
        pq.read_table(write_dataset(tmp_path / name, 10, seed))
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    assert tables[0].equals(tables[1])
    assert not tables[0].equals(tables[2])


def test_an_existing_file_is_left_alone(tmp_path: Path) -> None:
    before = write_dataset(tmp_path, 2).read_bytes()
    with pytest.raises(FileExistsError):
        write_dataset(tmp_path, 3)
    assert (tmp_path / "drawings.parquet").read_bytes() == before


def test_held_out_captions_are_never_trained_on() -> None:
    scenes = [sample_scene(seed) for seed in range(20_000)]
    trained = {caption(scene) for scene in scenes if not is_held_out(scene)}
    held_out = {caption(scene) for scene in itertools.islice(held_out_scenes(0), 1000)}
    assert len(trained) > 10_000
    assert trained.isdisjoint(held_out)
    assert 0.08 < sum(map(is_held_out, scenes)) / len(scenes) < 0.12


def test_writing_a_dataset_imports_neither_torch_nor_transformers() -> None:
    program = (
        "import sys, jobs.demo.dataset; print([m for m in ('torch', 'transformers', 'vllm', 'ray')"
        " if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
