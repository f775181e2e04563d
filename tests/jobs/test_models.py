"""A model and its adapters by their names on the hub, through the real command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from jobs.cli import app as cli
from jobs.demo.dataset import held_out_scenes, jpeg
from jobs.demo.phrases import CAPTION_PROMPT
from jobs.demo.phrases import caption as truth
from pipeline.engine.model_files import BUNDLED
from tests.hub import Hub

MODEL, MENDED, SAME = "us/spoiled", "us/mended-lora", "us/same-lora"
RANK = 4
SCENES = [*islice(held_out_scenes(33), 4)]
TRUTHS = [truth(scene) for scene in SCENES]

pytestmark = pytest.mark.timeout(400)


def write_model_and_adapters(folder: Path) -> None:
    """The bundled model with a change in it that spoils its captions, and what takes it back."""
    shutil.copytree(BUNDLED["demo"], folder / MODEL)
    weights = load_file(folder / MODEL / "model.safetensors")
    generator = torch.Generator().manual_seed(7)
    back, same = {}, {}
    for name, weight in weights.items():
        if "language_model" not in name or not name.endswith("_proj.weight"):
            continue
        wide, narrow = weight.shape
        first = torch.randn(RANK, narrow, generator=generator) * narrow**-0.5
        second = torch.randn(wide, RANK, generator=generator) * 0.5
        weights[name] = weight.float() + second @ first
        stem = f"base_model.model.{name.removesuffix('.weight')}"
        a, b = f"{stem}.lora_A.weight", f"{stem}.lora_B.weight"
        back |= {a: first, b: -second}
        same |= {a: first, b: torch.zeros_like(second)}
    metadata = {"format": "pt"}
    save_file(weights, folder / MODEL / "model.safetensors", metadata)
    kinds = sorted({name.split(".")[-3] for name in back})
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, "target_modules": kinds}
    for name, tensors in ((MENDED, back), (SAME, same)):
        (folder / name).mkdir()
        save_file(tensors, folder / name / "adapter_model.safetensors", metadata)
        (folder / name / "adapter_config.json").write_text(json.dumps(config))


def caption(tmp_path: Path, model: str, mended: str, same: str, url: str) -> None:
    command = [sys.executable, "-m", "jobs", "caption", str(tmp_path / "in"), str(tmp_path / "out")]
    options = ["--model", model, "--dtype", "float32", "--prompt", CAPTION_PROMPT]
    adapters = ["--lora", f"mended={mended}", "--lora", f"same={same}", "--lora-column", "how"]
    environment = {name: os.environ[name] for name in os.environ if name != "HF_HUB_OFFLINE"}
    own = {"HF_ENDPOINT": url, "HF_HOME": str(tmp_path / "hf"), "HF_TOKEN": ""}
    done = subprocess.run(
        [*command, *options, *adapters],
        env={**environment, **own},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_row_is_answered_by_the_adapter_that_it_names(tmp_path: Path) -> None:
    write_model_and_adapters(tmp_path)
    (tmp_path / "in").mkdir()
    images = [jpeg(scene) for scene in SCENES]
    how = [*["mended"] * 4, *["same"] * 4, *[None] * 4, "absent"]
    table = pa.table({"image": [*images * 3, images[0]], "how": how})
    pq.write_table(table, tmp_path / "in" / "rows.parquet")
    hub = Hub()
    for name in (MODEL, MENDED, SAME):
        hub.add(name, tmp_path / name, "models")
    with hub.running() as url:
        caption(tmp_path, MODEL, MENDED, SAME, url)
        rows = pq.read_table(tmp_path / "out").to_pylist()
        assert [row["caption"] for row in rows[:4]] == TRUTHS
        spoiled = [row["caption"] for row in rows[8:12]]
        assert not {*spoiled} & {*TRUTHS}
        assert [row["caption"] for row in rows[4:8]] == spoiled
        assert rows[12]["outcome"] == "missing_input"
        assert rows[12]["error"] == "render: there is no adapter 'absent'; lora has mended, same"
        record = json.loads((tmp_path / "out/_gemma3_batch/run.json").read_text())
        commit = hub.repositories["models", MODEL].head
        assert record["config"]["engine"]["model"] == f"hf://{MODEL}@{commit}"
        assert record["model"]["revision"] == commit
        # The same model and adapters as folders: the run is complete.
        by_folder = [str(tmp_path / name) for name in (MODEL, MENDED, SAME)]
        written = (tmp_path / "out/_gemma3_batch/run.json").stat().st_mtime_ns
        caption(tmp_path, *by_folder, "http://127.0.0.1:9")
        assert (tmp_path / "out/_gemma3_batch/run.json").stat().st_mtime_ns == written


def test_a_flag_that_is_repeated_counts_every_time(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"image": "a.jpg"}\n')
    arguments = ["caption", str(rows), str(tmp_path / "out"), "--model", "demo"]
    done = CliRunner().invoke(cli.app, [*arguments, "--lora", "a=/x", "--lora", "b=/y"])
    assert done.exit_code == 2
    assert "lora: which rows have which of a, b? lora_column names the column" in done.stderr
