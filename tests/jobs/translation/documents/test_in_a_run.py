"""The document suite through a whole run on Ray, with an engine that says what it was given."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.translation.task import TranslationTask
from pipeline import EngineConfig, Generation, RunConfig, run
from pipeline.engine.interface import Backend, Rendered
from tests.jobs.translation.documents.suite import LARGE, SUITE
from tests.pipeline.fakes import FakeEngine, FakeRenderer

BUDGET = 100
WORDING = "into German:\n\n\n"
SAMPLES = [sample for sample in SUITE if sample not in LARGE[2:]]
"""Two of the large ones are enough here; `test_document` has all."""


class CountingRenderer(FakeRenderer):
    def count(self, text: str) -> int:
        return len(re.findall(r"\w{1,4}|[^\w\s]", text))


class Echo(FakeEngine):
    """Says the text it is asked to translate; refuses one that is over the budget."""

    async def generate(self, rendered: Rendered, key: str) -> Generation:
        prompt, _ = rendered.prompt
        _, found, text = prompt.partition(WORDING)
        assert found
        # Only what stands in the documents itself has this in it.
        assert len(re.findall(r"\w{1,4}|[^\w\s]", text)) <= BUDGET, f"{key}: {text[:80]}"
        return Generation(text, len(prompt), len(text), "stop")


def readable(text: str) -> str:
    """A string of Arrow's holds no lone surrogates; invalid bytes have a test of their own."""
    return text.encode(errors="replace").decode()


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("ray_cluster")
def test_an_echo_gives_every_document_byte_for_byte(tmp_path: Path, gemma_folder: Path) -> None:
    texts = [readable(sample.text) for sample in SAMPLES]
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"text": texts}), tmp_path / "in" / "a.parquet")
    engine = EngineConfig(model=str(gemma_folder), max_model_len=1024)
    config = RunConfig(input=str(tmp_path / "in"), output=str(tmp_path / "out"), engine=engine)
    task = TranslationTask(
        targets=("de",),
        text_columns=("text",),
        source="en",
        chunk_tokens=BUDGET,
        context_tokens=20,
        check_language=False,
    )
    backend = Backend(name="echo", renderer=CountingRenderer, engine=Echo)
    table = run(config, task, backend=backend).table()
    for sample, row in zip(SAMPLES, table.to_pylist(), strict=True):
        assert row["outcome"] == "ok", (sample.name, row["error"])
        assert row["text_de"].encode() == row["text"].encode(), sample.name
        assert row["text_de_lost"] == [], sample.name
