"""The images of an OUTPUT's rows are found again: in INPUT as it was, or as the part kept them."""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline import RunResult
from pipeline.contract.errors import RowError
from pipeline.output.pictures import Pictures
from pipeline.output.status import open_output
from tests.jobs.report.outputs import caption_task, drawing, image_rows, make_output, text_rows
from tests.jobs.report.outputs import translation_task as translate

ROWS = 9


def parquet(folder: Path) -> str:
    return image_rows(folder, ROWS)


def folder_of_images(folder: Path) -> str:
    folder.mkdir()
    for number in range(ROWS):
        (folder / f"{number}.jpg").write_bytes(drawing(number))
    return str(folder)


def shard(folder: Path) -> str:
    folder.mkdir()
    with tarfile.open(folder / "a.tar", "w") as tar:
        for number in range(ROWS):
            for name, body in ((f"{number}.jpg", drawing(number)), (f"{number}.json", b"{}")):
                member = tarfile.TarInfo(name)
                member.size = len(body)
                tar.addfile(member, io.BytesIO(body))
    return str(folder / "a.tar")


def paths(folder: Path) -> str:
    images = Path(folder_of_images(folder.with_name("images")))
    folder.mkdir()
    column = [str(images / f"{number}.jpg") for number in range(ROWS)]
    pq.write_table(pa.table({"image": column}), folder / "a.parquet")
    return f"{folder}/*.parquet"


def captions(output: Path, source: str, image_column: str = "image", **settings: Any) -> str:
    task = caption_task(image_column=image_column)
    return make_output(
        str(output), task, source, lambda n: {"caption": str(n)}, unit_rows=4, **settings
    )


def found(output: str) -> dict[int, Image.Image | str]:
    """By a row's number the picture, or why there is none."""
    _, record, plan = open_output(output)
    pictures = Pictures(record, plan)
    images: dict[int, Image.Image | str] = {}
    row = 0
    for index in range(len(plan)):
        unit = plan.unit(index)
        for picture in pictures.of(unit, range(unit.rows)):
            try:
                images[row + picture.position] = pictures.load(picture, 64)
            except RowError as error:
                images[row + picture.position] = error.message
        row += unit.rows
    return images


def check(images: dict[int, Image.Image | str]) -> None:
    assert [*images] == [*range(ROWS)]
    for number, image in images.items():
        assert isinstance(image, Image.Image), image
        assert image.size == (64, 48)
        wanted = (number * 53 % 256, number * 97 % 256, number * 31 % 256)
        assert image.getpixel((30, 20)) == pytest.approx(wanted, abs=6)


@pytest.mark.parametrize("make", [parquet, folder_of_images, paths])
def test_each_row_has_its_own_picture(tmp_path: Path, make: Any) -> None:
    check(found(captions(tmp_path / "out", make(tmp_path / "in"))))


def test_each_row_of_a_shard_has_its_own_picture(tmp_path: Path) -> None:
    check(found(captions(tmp_path / "out", shard(tmp_path / "in"), "jpg")))


@pytest.mark.parametrize("output_format", ["parquet", "webdataset"])
def test_without_input_the_pictures_are_those_that_were_kept(
    tmp_path: Path, output_format: str
) -> None:
    source = parquet(tmp_path / "in")
    kept = {"keep_images": True, "output_format": output_format}
    output = captions(tmp_path / "out", source, **kept)
    shutil.rmtree(source)
    check(found(output))


def test_pictures_of_an_input_that_changed_are_not_shown_for_those_of_before(
    tmp_path: Path,
) -> None:
    source = folder_of_images(tmp_path / "in")
    output = captions(tmp_path / "out", source)
    (tmp_path / "in" / "3.jpg").write_bytes(drawing(4, side=200))
    (tmp_path / "in" / "5.jpg").unlink()
    images = found(output)
    assert images[3] == "3.jpg has changed since the run"
    assert "there is no file 5.jpg" in str(images[5])
    assert isinstance(images[4], Image.Image)
    table = pa.table({"image": [drawing(9)] * ROWS, "name": ["x"] * ROWS})
    source = parquet(tmp_path / "other")
    output = captions(tmp_path / "out2", source)
    pq.write_table(table, tmp_path / "other" / "00000000.parquet")
    assert set(found(output).values()) == {"00000000.parquet has changed since the run"}


def test_a_link_is_not_followed_and_nothing_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    links = ["https://example.org/a.jpg", None, "gone.jpg"]
    pq.write_table(pa.table({"image": links}), tmp_path / "in" / "a.parquet")
    images = found(captions(tmp_path / "out", str(tmp_path / "in")))
    assert images[0] == "it lies behind a link, which is not followed here"
    assert images[1] == "the image is null"
    assert "gone.jpg" in str(images[2])


def test_a_job_of_texts_has_none(tmp_path: Path) -> None:
    source = text_rows(tmp_path / "in", ["a", "b"])
    output = make_output(str(tmp_path / "out"), translate("de"), source, lambda _: {})
    _, record, plan = open_output(output)
    assert Pictures(record, plan).column is None


def result(output: str) -> RunResult:
    return RunResult(
        output=output,
        rows=ROWS,
        outcomes={"ok": ROWS},
        duplicates=0,
        new_rows=ROWS,
        model_class=None,
        seconds=1.0,
        rows_per_second=9.0,
    )


def test_a_notebook_shows_rows_with_their_pictures_and_executes_nothing(tmp_path: Path) -> None:
    source = parquet(tmp_path / "in")
    hostile = "<script>alert(1)</script>"
    output = make_output(
        str(tmp_path / "out"), caption_task(), source, lambda n: {"caption": f"{hostile}{n}"}
    )
    shown = result(output)._repr_html_()
    assert shown is not None
    assert shown.count("<img src='data:image/webp;base64,") == 6
    assert "&lt;script&gt;alert(1)&lt;/script&gt;0" in shown
    assert "<script" not in shown
    shutil.rmtree(output)
    assert result(output)._repr_html_() in (None, shown.partition("<table>")[0])
