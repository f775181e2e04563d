"""A plan of captions by the bundled model, and the run that follows."""

from __future__ import annotations

from pathlib import Path

from jobs import Engine
from jobs.demo.dataset import write_dataset
from jobs.forecast.planning import Asked, plan_run
from jobs.forecast.stored import compared
from jobs.registry import JOBS
from jobs.sdk.assembly import configure
from jobs.sdk.calls import run_job

ROWS = 120


def drawings(folder: Path) -> Path:
    """A folder of drawings, a tenth of which are cut off."""
    import pyarrow.parquet as pq

    (folder / "in").mkdir()
    table = pq.read_table(write_dataset(folder / "made", ROWS))
    for at, image in enumerate(table["image"].to_pylist()):
        body = image["bytes"]
        (folder / "in" / f"{at:03}.jpg").write_bytes(body[:400] if at % 10 == 0 else body)
    return folder / "in"


def test_a_plan_of_captions_says_what_comes(tmp_path: Path, warm_engine: Engine) -> None:
    job = configure(JOBS["caption"], warm_engine.options({}, JOBS["caption"].options.model_fields))
    source, output = str(drawings(tmp_path)), str(tmp_path / "out")
    config = warm_engine.configured(job.run_config(source, output))
    forecast = plan_run(
        config, job.task(), Asked(pilot_rows=60, replicas=1), backend=warm_engine.backend
    )
    assert forecast.model_class == "gemma3_model.model.Gemma3ForConditionalGeneration"
    assert (forecast.rows, forecast.pilot_rows, forecast.replicas) == (ROWS, 60, 1)
    assert [*forecast.failures] == ["decode_error"]
    assert 0.1 in forecast.failed.interval
    good = [row["caption"] for row in forecast.samples if row["outcome"] == "ok"]
    assert good
    assert all(" a " in f" {caption} " for caption in good)
    assert forecast.time.rows_per_second > 0

    done = run_job(job, source, output, engine=warm_engine)
    tokens = done.table(["prompt_tokens", "output_tokens"]).to_pydict()
    written = sum(count or 0 for count in tokens["output_tokens"])
    assert abs(forecast.written.total / written - 1) < 0.15
    line = compared(done)
    assert line is not None
    assert line.endswith("% failed, 10 %")
