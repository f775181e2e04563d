"""A whole run from a store to itself: stopped by errors, finished, fixed, and read by others."""

from __future__ import annotations

from pathlib import Path

import pyarrow.dataset as ds
import pytest

from pipeline import EngineConfig, ErrorRateError, RunConfig, failed_rows, retry, run, status
from pipeline.contract.task import Generation
from pipeline.engine.interface import Backend, Rendered
from pipeline.storage.location import locate
from tests.pipeline.execution.test_run import colours_dataset
from tests.pipeline.fakes import FAKE, ColourTask, FakeEngine, FakeRenderer
from tests.stores import GCS, S3

ROWS = 600
BAD_SHARE = 0.3


class FixedEngine(FakeEngine):
    """Refuses nothing any more."""

    async def generate(self, rendered: Rendered, key: str) -> Generation:
        text = " ".join(map(str, rendered.prompt[1][0]))
        return Generation(text, rendered.prompt_tokens, 3, "stop")


# Always run are those of `tests/deploy/test_submit.py` on RGW, a real S3 server, and of
# `tests/chaos/test_chaos.py` on moto.
@pytest.fixture(
    params=[pytest.param(name, marks=pytest.mark.long) for name in ("rgw", "s3", "gcs")]
)
def store(request: pytest.FixtureRequest) -> S3 | GCS:
    found: S3 | GCS = request.getfixturevalue(request.param)
    return found


@pytest.mark.usefixtures("ray_cluster")
def test_a_run_on_an_object_store_is_finished_and_fixed(
    store: S3 | GCS, tmp_path: Path, gemma_folder: Path
) -> None:
    records = colours_dataset(tmp_path / "in", ROWS, BAD_SHARE)
    root = locate(store.url, store.options)
    root.fs.put(f"{tmp_path}/in/", f"{root.path}/in/", recursive=True)
    settings = RunConfig(
        input=f"{root}/in",
        output=f"{root}/out",
        engine=EngineConfig(model=str(gemma_folder), max_num_seqs=16),
        storage_options=store.options,
        unit_rows=100,
        block_rows=10,
        render_workers=1,
    )
    strict = settings.model_copy(update={"max_error_rate": 0.1})
    with pytest.raises(ErrorRateError):
        run(strict, ColourTask(), backend=FAKE)
    stopped = status(settings.output, store.options)
    assert 0 < stopped.rows_done + stopped.rows_journalled < ROWS

    result = run(settings, ColourTask(), backend=FAKE)
    assert 0 < result.new_rows <= ROWS - stopped.rows_done - stopped.rows_journalled
    output = root / "out"

    def rows() -> list[dict[str, object]]:
        """As pyarrow reads OUTPUT through fsspec."""
        return ds.dataset(output.path, filesystem=output.fs).to_table().to_pylist()

    for column in ("n", "outcome", "colour"):
        assert [row[column] for row in rows()] == [record[column] for record in records]

    refused = {record["n"] for record in records if record["outcome"] == "engine_error"}
    listed = failed_rows(settings.output, ["engine_error"], store.options)
    assert {n for table in listed for n in table["n"].to_pylist()} == refused != set()
    backend = Backend(name="fake", renderer=FakeRenderer, engine=FixedEngine)
    fixed = retry(settings, ColourTask(), ["engine_error"], backend=backend)
    assert fixed.new_rows == len(refused)
    for row, record in zip(rows(), records, strict=True):
        was_refused = record["n"] in refused
        assert row["n"] == record["n"]
        assert row["colour"] == ([0, 0, 0] if was_refused else record["colour"])
        assert row["outcome"] == ("ok" if was_refused else record["outcome"])
    assert run(settings, ColourTask(), backend=FAKE).new_rows == 0
