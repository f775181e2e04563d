"""Whose OUTPUT it is, and what of a run is written down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline import EngineConfig, RunConfig, UserError
from pipeline.engine.checkpoint import open_checkpoint
from pipeline.output import run_record
from pipeline.output.run_record import (
    Record,
    choose_output,
    claim,
    describe_run,
    differences,
    finish,
    has_same_input,
    prefix_of,
    read_record,
    withdraw,
)
from pipeline.storage.atomic import overwrite, remove_folder
from pipeline.storage.location import Location, locate
from tests.pipeline.fakes import ColourTask
from tests.stores import S3
from tests.weights import write_weights


def record_of(
    model: Path, prompt: str = "Which colour?", backend: str = "fake", **fields: Any
) -> Record:
    base = {"input": "/in", "output": "/out", "engine": EngineConfig(model=str(model))}
    config = RunConfig.model_validate({**base, **fields})
    checkpoint = open_checkpoint(str(model))
    return describe_run(config, ColourTask(prompt=prompt), checkpoint, backend)


def test_of_long_settings_the_difference_is_shown(gemma_folder: Path) -> None:
    long = "Describe this image. " * 20
    one, other = (
        record_of(gemma_folder, prompt=f"{long}{end}") for end in ("Briefly.", "At length.")
    )
    (line,) = differences(one, other)
    assert "Briefly." in line
    assert "At length." in line
    assert len(line) < 200


def test_a_run_is_not_continued_with_another_backend(gemma_folder: Path) -> None:
    record = record_of(gemma_folder)
    other = record_of(gemma_folder, backend="vllm")
    assert differences(record, other) == ["backend: 'fake', now 'vllm'"]
    before = {name: value for name, value in other.items() if name != "backend"}
    assert differences(before, other) == []


def test_an_earlier_record_had_the_checkpoints_own_template(gemma_folder: Path) -> None:
    record = record_of(gemma_folder)
    engine = EngineConfig(model=str(gemma_folder), prompt_format="raw")
    raw = record_of(gemma_folder, engine=engine)
    assert differences(record, raw) == ["prompt_format: 'template', now 'raw'"]
    before = {**record["config"], "engine": {**record["config"]["engine"]}}
    del before["engine"]["prompt_format"]
    assert differences({**record, "config": before}, record) == []
    assert differences({**record, "config": before}, raw) != []
    # It had no white space around its texts either; a prompt from a YAML block ends in a line feed.
    block = record_of(gemma_folder, prompt="Which colour?\n")
    assert differences({**record, "config": before}, block) == []
    assert differences(record, block) != []


def test_an_earlier_record_had_no_prefix(gemma_folder: Path) -> None:
    record = record_of(gemma_folder)
    before = {name: value for name, value in record["config"].items() if name != "prefix"}
    assert differences({**record, "config": before}, record) == []
    other = record_of(gemma_folder, prefix="gemma_")
    assert differences({**record, "config": before}, other) == ["prefix: absent, now 'gemma_'"]
    assert (prefix_of({**record, "config": before}), prefix_of(other)) == ("", "gemma_")


def test_an_earlier_record_of_a_large_model_is_continued(gemma_folder: Path) -> None:
    """It had the names and sizes of the files, and nothing of what is in them."""
    record = record_of(gemma_folder)
    large = {**record["model"], "identity": "sha256-samples:a", "identity_before": "sha256:b"}
    tuned = {**large, "identity": "sha256-samples:c"}
    earlier = {"architecture": large["architecture"], "identity": "sha256:b"}
    now = {**record, "model": large}
    assert differences({**record, "model": earlier}, now) == []
    assert differences(now, {**record, "model": tuned}) == [
        "model: 'sha256-samples:a', now 'sha256-samples:c'"
    ]


def config_for(output: Path | str, **fields: Any) -> RunConfig:
    engine = EngineConfig(model="m")
    return RunConfig.model_validate(
        {"input": "/in", "output": str(output), "engine": engine, **fields}
    )


def test_no_credentials_are_written_down(gemma_folder: Path, tmp_path: Path) -> None:
    record = record_of(
        gemma_folder,
        input="https://user:hunter22@example.org/x.parquet?X-Amz-Signature=abcdef",
        storage_options={"s3": {"key": "AKIASECRET", "secret": "topsecret"}},
    )
    output = locate(str(tmp_path / "out"))
    claim(output, record)
    finish(output, record, {"rows": 1})
    text = (tmp_path / "out/_gemma3_batch/run.json").read_text()
    for secret in ("hunter22", "abcdef", "AKIASECRET", "topsecret"):
        assert secret not in text
    assert "example.org/x.parquet" in text


def test_how_work_is_spread_may_change_and_what_is_asked_may_not(gemma_folder: Path) -> None:
    record = record_of(gemma_folder)
    spread = {"render_workers": 3, "unit_rows": 7, "block_rows": 9, "dedup": False}
    assert differences(record, record_of(gemma_folder, **spread, max_error_rate=0.5)) == []
    assert differences(record, record_of(gemma_folder, prompt="Other")) == [
        "settings.prompt: 'Which colour?', now 'Other'"
    ]
    assert differences(record, record_of(gemma_folder, keep_images=True)) == [
        "keep_images: False, now True"
    ]
    write_weights(gemma_folder / "model.safetensors", weight=b"WEIGHTS")
    (model,) = differences(record, record_of(gemma_folder))
    assert model.startswith("model: 'sha256:")
    # A record is compared as it was read back.
    assert differences(json.loads(json.dumps(record)), record) == []


def test_of_two_that_claim_at_once_the_second_must_be_the_same(
    gemma_folder: Path, tmp_path: Path
) -> None:
    output = locate(str(tmp_path / "out"))
    assert claim(output, record_of(gemma_folder))
    assert not claim(output, record_of(gemma_folder))
    with pytest.raises(UserError, match="another configuration"):
        claim(output, record_of(gemma_folder, prompt="Other"))


def test_a_wrong_output_is_told_in_a_line(gemma_folder: Path, tmp_path: Path) -> None:
    record = record_of(gemma_folder)
    other = {**record, "task": "translate", "settings": {f"s{n}": "x" * 900 for n in range(30)}}
    output = locate(str(tmp_path / "out"))
    claim(output, other)
    with pytest.raises(UserError) as refusal:
        claim(output, record)
    expected = f"OUTPUT {output} holds a 'translate' run, not 'colour'; name a new folder"
    assert str(refusal.value) == expected
    with pytest.raises(UserError) as refusal:
        claim(output, {**other, "settings": {f"s{n}": "y" * 900 for n in range(30)}})
    assert "settings.s0: 'xxx" in str(refusal.value)
    assert "; and 28 more)" in str(refusal.value)
    assert len(str(refusal.value)) < 650


def test_an_input_is_known_by_its_place_from_whichever_folder(
    gemma_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    here = record_of(gemma_folder, input="in/a.parquet")
    assert has_same_input(here, record_of(gemma_folder, input=str(tmp_path / "in/a.parquet")))
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert not has_same_input(here, record_of(gemma_folder, input="in/a.parquet"))
    earlier = {name: value for name, value in here.items() if name != "input"}
    assert not has_same_input(earlier, here)  # a relative path, of nobody knows which folder
    place = record_of(gemma_folder, input="/data/a.parquet")
    del place["input"]  # type: ignore[attr-defined]
    assert has_same_input(place, record_of(gemma_folder, input="/data/a.parquet"))


def test_a_link_is_the_same_input_with_another_signature_alone(gemma_folder: Path) -> None:
    def of(query: str) -> Record:
        return record_of(gemma_folder, input=f"https://host/dir/get{query}")

    one = of("?file=a&X-Amz-Signature=secret1&X-Amz-Credential=us/eu")
    assert has_same_input(one, of("?file=a&X-Amz-Signature=secret2&X-Amz-Credential=us/eu"))
    assert "secret" not in json.dumps(one)
    assert has_same_input(of("?sv=1&sig=abc"), of("?sv=2&sig=abcd"))
    assert not has_same_input(one, of("?file=b&X-Amz-Signature=secret1"))
    assert not has_same_input(of("?key=a"), of("?key=b"))
    assert not has_same_input(of(""), one)
    earlier = {**one}  # its plan has the query in the file's name
    del earlier["input"]
    assert not has_same_input(earlier, one)
    plain = {**of("")}
    del plain["input"]
    assert has_same_input(plain, of(""))


def test_a_folder_with_anything_else_in_it_is_left_alone(
    gemma_folder: Path, tmp_path: Path
) -> None:
    record = record_of(gemma_folder)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").touch()
    with pytest.raises(UserError, match=r"holds other files; name a new folder$"):
        choose_output(config_for(tmp_path / "mine"), record)
    with pytest.raises(UserError, match="holds other files"):
        choose_output(config_for(tmp_path / "mine", new_version=True), record)
    assert choose_output(config_for(tmp_path / "new"), record).path == str(tmp_path / "new")


def test_a_new_run_finds_nothing_that_another_one_journalled_late(
    gemma_folder: Path, tmp_path: Path
) -> None:
    output, record = locate(str(tmp_path / "out")), record_of(gemma_folder)
    claim(output, record)
    withdraw(output)
    late = output / "_gemma3_batch/journal/u/late.parquet"
    overwrite(late, b"of another prompt")
    claim(output, record)
    assert not late.exists()
    overwrite(late, b"of this run")
    claim(output, record)
    assert late.exists()


def test_a_folder_that_a_stores_console_made_is_free(gemma_folder: Path, s3: S3) -> None:
    """It is an empty object, whose name ends in a slash."""
    where = locate(f"{s3.url}/out")
    bucket, key = where.path.split("/", 1)
    where.fs.call_s3("put_object", Bucket=bucket, Key=f"{key}/", Body=b"")
    config, record = config_for(f"s3://{where.path}"), record_of(gemma_folder)
    assert choose_output(config, record).path == where.path
    overwrite(where / "thesis.tex", b"x")
    with pytest.raises(UserError, match="holds other files"):
        choose_output(config, record)


def test_an_output_of_an_older_format_is_refused(gemma_folder: Path, tmp_path: Path) -> None:
    record = record_of(gemma_folder)
    where = locate(str(tmp_path / "out"))
    overwrite(where / "_gemma3_batch/run.json", json.dumps({**record, "format": 1}).encode())
    with pytest.raises(UserError, match="of another version of gemma3-batch"):
        choose_output(config_for(tmp_path / "out"), record)


def test_a_claim_is_taken_back_without_a_trace(gemma_folder: Path, tmp_path: Path) -> None:
    output = locate(str(tmp_path / "out"))
    claim(output, record_of(gemma_folder))
    withdraw(output)
    assert not (tmp_path / "out").exists()
    assert read_record(output) is None


def test_a_claim_that_is_taken_back_keeps_its_record_to_the_last(
    gemma_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill in between would leave a journal that the next run takes for its own."""
    output = locate(str(tmp_path / "out"))
    claim(output, record_of(gemma_folder))
    for name in ("journal/u/x.parquet", "plan/000000.parquet", "suspects/u/1"):
        overwrite(output / "_gemma3_batch" / name, b"x")

    def killed_at_the_end(where: Location) -> None:
        if where.name == "_gemma3_batch":
            raise KeyboardInterrupt
        remove_folder(where)

    monkeypatch.setattr(run_record, "remove_folder", killed_at_the_end)
    with pytest.raises(KeyboardInterrupt):
        withdraw(output)
    assert [info.path for info in (output / "_gemma3_batch").tree()] == ["run.json"]


def test_a_record_keeps_the_first_start(gemma_folder: Path, tmp_path: Path) -> None:
    output = locate(str(tmp_path / "out"))
    first = {**record_of(gemma_folder), "started": "2026-01-01T00:00:00+00:00"}
    claim(output, first)
    for rows in (1, 2):
        later = record_of(gemma_folder, render_workers=rows)
        finish(output, later, {"rows": rows})
        found = read_record(output)
        assert found is not None
        assert (found["id"], found["started"]) == (first["id"], first["started"])
        assert (found["rows"], found["config"]["render_workers"]) == (rows, rows)
        assert found["finished"] >= later["started"]


def test_numbers_of_a_series_are_one_line(gemma_folder: Path, tmp_path: Path) -> None:
    output, record = locate(str(tmp_path)), record_of(gemma_folder, prompt="[\n  1,\n  2\n]")
    series = {"a": [0.5, -1, 2e-07, 100], "b": [], "c": [[1, 2], ["x", 3]]}
    finish(output, record, {"profile": {"series": series}})
    text = (tmp_path / "_gemma3_batch/run.json").read_text()
    assert '"a": [0.5, -1, 2e-07, 100],' in text
    again = read_record(output)
    assert again is not None
    assert again["profile"]["series"] == series
    assert again["settings"] == record["settings"]
