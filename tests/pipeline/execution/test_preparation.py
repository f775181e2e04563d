"""What is checked before a run starts: that INPUT is the one of before, and fits into OUTPUT."""

from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import EngineConfig, RunConfig, UserError
from pipeline.execution.preparation import CheckedRun, check_run
from pipeline.output.extension import extended
from pipeline.output.run_record import claim
from pipeline.storage.file_table import tabulate
from tests.pipeline.fakes import FAKE, ColourTask
from tests.web import Answering, serving


def checked(model: Path, source: str, output: Path, **more: Any) -> CheckedRun:
    engine = EngineConfig(model=str(model))
    config = RunConfig(input=source, output=str(output), engine=engine, **more)
    return check_run(config, ColourTask(), FAKE)


def planned(run: CheckedRun) -> None:
    """What a run does before it starts."""
    claim(run.output, run.record)
    extended(None, run.output, run.listing, run.source)


class WithoutTags(Answering):
    """Two files of one size at one path, told apart by the query alone."""

    def do_GET(self) -> None:
        if "file=" not in self.path:
            self.refuse(HTTPStatus.NOT_FOUND)
            return
        self.send_range(b"image\n%s.png\n" % self.path.partition("file=")[2][:1].encode(), {})

    do_HEAD = do_GET


def test_a_link_that_asks_for_another_file_is_another_input(
    tmp_path: Path, gemma_folder: Path
) -> None:
    out = tmp_path / "out"
    with serving(WithoutTags) as url:
        link = f"{url}/get.csv"
        planned(checked(gemma_folder, f"{link}?file=a&Signature=secret1", out))
        again = checked(gemma_folder, f"{link}?file=a&Signature=secret2", out)
        assert again.changes is not None
        assert not again.changes
        with pytest.raises(UserError, match=r"made from another INPUT.*name a new folder") as other:
            checked(gemma_folder, f"{link}?file=b&Signature=secret2", out)
    assert "secret" not in str(other.value)
    kept = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    assert b"secret" not in kept


def test_an_output_whose_plan_has_a_query_in_names_is_refused(
    tmp_path: Path, gemma_folder: Path
) -> None:
    """As the version before made it: the link's rows would be planned once more."""
    out = tmp_path / "out"
    with serving(WithoutTags) as url:
        run = checked(gemma_folder, f"{url}/get.csv?file=a", out)
        (file,) = run.listing.files
        files = tabulate([replace(file, path="get.csv?file=a")])
        extended(None, run.output, replace(run.listing, files=files), run.source)
        claim(run.output, {**run.record, "input": f"{url}/get.csv"})
        with pytest.raises(UserError, match=r"made from another INPUT.*name a new folder"):
            checked(gemma_folder, f"{url}/get.csv?file=a", out)


@pytest.mark.parametrize("keeps", [False, True])
def test_lists_of_images_go_into_csv_without_their_bytes(
    tmp_path: Path, gemma_folder: Path, keeps: bool
) -> None:
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema({"image": pa.string(), "more": pa.list_(image)})
    row = {"image": "a.png", "more": [{"bytes": b"x", "path": "b.png"}]}
    (tmp_path / "in").mkdir()
    pq.write_table(pa.Table.from_pylist([row], schema=schema), tmp_path / "in/a.parquet")
    options = {"output_format": "csv", "keep_images": keeps}
    if keeps:
        with pytest.raises(UserError, match=r"cannot hold column 'more'.*leave out keep_images"):
            checked(gemma_folder, str(tmp_path / "in"), tmp_path / "out", **options)
        return
    checked(gemma_folder, str(tmp_path / "in"), tmp_path / "out", **options)
