"""Inputs as users bring them, through whole runs on Ray with a fake engine."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.cli.tables import skipped_lines, status_text
from pipeline import EngineConfig, RunConfig, UserError, run, status
from pipeline.execution.preparation import check_run
from pipeline.sources.skipped import Reason, SkippedFiles
from tests.pipeline.fakes import FAKE, ColourTask
from tests.pipeline.sample_images import encoded, plain
from tests.pipeline.server import respond, serving

FILES = {
    **{"a.jpg": "JPEG", "B.JPG": "JPEG", "c.jfif": "JPEG", "d.avif": "AVIF", "e.jp2": "JPEG2000"},
    **{"f.HEIC": "HEIF", "g.jpe": "JPEG", "h.tif": "TIFF"},
}
NOT_READ = "Files of INPUT that are not read: 2 of no known format (notes.txt, x.md)"


def test_of_many_files_that_are_not_read_a_few_are_named() -> None:
    files = SkippedFiles()
    for number in range(5):
        files.add(Reason.UNKNOWN, f"{number}.csv")
    files.add(Reason.EMPTY, "e\x1b.tar")
    assert skipped_lines(files.found()) == [
        "Files of INPUT that are not read: 5 of no known format (0.csv, 1.csv, 2.csv, ...); "
        "1 empty (e\ufffd.tar)"
    ]
    assert skipped_lines(()) == []


@pytest.mark.usefixtures("ray_cluster")
def test_every_file_of_a_folder_is_a_row_or_named_as_not_read(
    tmp_path: Path, gemma_folder: Path
) -> None:
    (tmp_path / "in").mkdir()
    for name, kind in FILES.items():
        (tmp_path / "in" / name).write_bytes(encoded(plain((9, 9, 9)), kind))
    for name in ("notes.txt", "x.md", ".DS_Store"):
        (tmp_path / "in" / name).write_text("not an image")
    config = RunConfig(
        input=str(tmp_path / "in"),
        output=str(tmp_path / "out"),
        engine=EngineConfig(model=str(gemma_folder)),
    )
    result = run(config, ColourTask(), backend=FAKE)
    rows = result.table(["path", "outcome"]).to_pylist()
    assert rows == [{"path": name, "outcome": "ok"} for name in sorted(FILES)]
    assert skipped_lines(result.skipped) == [NOT_READ]
    found = status(str(tmp_path / "out"))
    assert found.skipped == result.skipped
    assert NOT_READ in status_text(found).splitlines()
    record = json.loads((tmp_path / "out/_gemma3_batch/run.json").read_text())
    (group,) = record["skipped"]
    assert group == {
        "reason": "of no known format",
        "count": 2,
        "examples": ["notes.txt", "x.md"],
    }
    (tmp_path / "in/metadata.jsonl").write_text('{"file_name": "a.png"}\n')  # read before images
    with pytest.raises(UserError, match=r"read as images and now has metadata.jsonl, .* of jsonl"):
        check_run(config, ColourTask(), FAKE)


@pytest.mark.usefixtures("ray_cluster")
def test_a_store_that_denies_all_ends_the_run_which_goes_on_once_that_is_mended(
    tmp_path: Path, gemma_folder: Path
) -> None:
    (tmp_path / "in").mkdir()
    names = [f"s3://b/{n}.png" for n in range(3)]
    pq.write_table(pa.table({"image": names}), tmp_path / "in/a.parquet")
    denied = respond(403, b"<Error><Code>AccessDenied</Code></Error>")
    with serving() as server:
        server.routes |= {f"/b/{n}.png": denied for n in range(3)}
        s3 = {"endpoint_url": server.url(""), "key": "k", "secret": "s"}
        config = RunConfig(
            input=str(tmp_path / "in"),
            output=str(tmp_path / "out"),
            engine=EngineConfig(model=str(gemma_folder)),
            storage_options={"s3": s3},
        )
        with pytest.raises(
            UserError, match=r"^no image of s3://b can be read: s3://b/\d\.png cann"
        ):
            run(config, ColourTask(), backend=FAKE)
        assert not (tmp_path / "out").exists()
        image = respond(200, encoded(plain((1, 2, 3)), "PNG"))
        server.routes |= {f"/b/{n}.png": image for n in range(3)}
        assert dict(run(config, ColourTask(), backend=FAKE).outcomes) == {"ok": 3}
