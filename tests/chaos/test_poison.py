"""Rows that are wrong in every way we know, one in ten, cost no good one."""

from __future__ import annotations

import gc
import io
import random
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import ray
from PIL import Image

from pipeline import RunConfig, run
from tests.pipeline.fakes import CRASHING, DEADLY, ENDLESS, FAKE, POISON, ColourTask
from tests.pipeline.sample_images import bomb_png, encoded, plain, truncated_jpeg

POISONED = 0.1
"""Share of the rows."""
MAX_BYTES = 20_000
STALL_S = 5.0

ImageCell = dict[str, bytes | str | None]


def inline(body: bytes | None) -> ImageCell:
    return {"bytes": body, "path": None}


def behind(path: str) -> ImageCell:
    return {"bytes": None, "path": path}


def wrong_checksum() -> bytes:
    body = bytearray(encoded(Image.effect_noise((32, 32), 80).convert("RGB"), "PNG"))
    place = body.index(b"IDAT") + 20
    body[place] ^= 0xFF
    return bytes(body)


def cut_png() -> bytes:
    whole = encoded(Image.effect_noise((64, 64), 80).convert("RGB"), "PNG")
    return whole[: len(whole) * 2 // 3]


def bomb_gif() -> bytes:
    """Some bytes that declare 65,535 x 65,535 pixels."""
    return (
        b"GIF89a\xff\xff\xff\xff\x80\0\0"
        + b"\0" * 6
        + b",\0\0\0\0\xff\xff\xff\xff\0\x02\x02L\x01\0;"
    )


def floating() -> bytes:
    return encoded(Image.fromarray(np.ones((8, 8), np.float32)), "TIFF")


def too_many_bytes() -> bytes:
    return encoded(plain(), "PNG") + zlib.compress(random.Random(1).randbytes(2 * MAX_BYTES))


def postscript() -> bytes:
    buffer = io.BytesIO()
    plain().save(buffer, "EPS")
    return buffer.getvalue()


KINDS: dict[str, tuple[ImageCell | None, str]] = {
    "null": (None, "missing_input"),
    "null bytes, no path": (inline(None), "missing_input"),
    "empty path": (behind(""), "missing_input"),
    "no such file": (behind("no/such/file.png"), "missing_input"),
    "a folder": (behind("folder"), "missing_input"),
    "a private address": (behind("http://127.0.0.1:9/x.png"), "missing_input"),
    "the metadata service": (behind("http://169.254.169.254/latest/meta-data"), "missing_input"),
    "a protocol nobody speaks": (behind("gopher://example.org/x.png"), "missing_input"),
    "not a link": (behind("http://[::bad/x.png"), "missing_input"),
    "no bytes": (inline(b""), "decode_error"),
    "an empty file": (behind("empty.png"), "decode_error"),
    "no image": (inline(b"\0\1\2 not an image"), "decode_error"),
    "a web page": (inline(b"<html><body>404</body></html>"), "decode_error"),
    "a drawing that is a program": (inline(postscript()), "decode_error"),
    "half a JPEG": (inline(truncated_jpeg()), "decode_error"),
    "two thirds of a PNG": (inline(cut_png()), "decode_error"),
    "a wrong checksum": (inline(wrong_checksum()), "decode_error"),
    "a PNG bomb": (inline(bomb_png()), "decode_error"),
    "a GIF bomb": (inline(bomb_gif()), "decode_error"),
    "floating point": (inline(floating()), "decode_error"),
    "too many bytes": (inline(too_many_bytes()), "decode_error"),
    "the engine refuses it": (inline(encoded(plain(POISON), "PNG")), "engine_error"),
}
ONCE: dict[str, tuple[ImageCell, str]] = {
    "it ends the renderer": (inline(encoded(plain(CRASHING), "PNG")), "engine_error"),
    "the renderer never comes back": (inline(encoded(plain(ENDLESS), "PNG")), "engine_error"),
    "it ends the engine": (inline(encoded(plain(DEADLY), "PNG")), "engine_error"),
}


def write_input(folder: Path, rows: int) -> tuple[list[str], list[str], list[list[int] | None]]:
    """Gives each row's kind, outcome and answer."""
    draw = random.Random(11)
    folder.mkdir()
    (folder / "folder").mkdir()
    (folder / "empty.png").touch()
    kinds = [[*KINDS][i % len(KINDS)] for i in range(int(rows * POISONED) - len(ONCE))] + [*ONCE]
    kinds += ["fine"] * (rows - len(kinds))
    draw.shuffle(kinds)
    images: list[ImageCell | None] = []
    outcomes, colours = [], []
    for kind in kinds:
        image, outcome = {**KINDS, **ONCE}.get(kind, (None, "ok"))
        colour = tuple(draw.randrange(1, 255) for _ in range(3))
        images.append(inline(encoded(plain(colour, (8, 8)), "PNG")) if kind == "fine" else image)
        outcomes.append(outcome)
        colours.append([*colour] if kind == "fine" else None)
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"kind": kinds, "image": pa.array(images, struct)})
    for part in range(4):
        piece = table[part * rows // 4 : (part + 1) * rows // 4]
        pq.write_table(piece, folder / f"{part}.parquet", row_group_size=500)
    return kinds, outcomes, colours


@pytest.fixture
def chance_collects_nothing() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def wait_for_all_cpus() -> None:
    """Until no actor of a run that is over holds any; the next run would wait for it."""
    give_up = time.monotonic() + 60
    while ray.available_resources().get("CPU") != ray.cluster_resources()["CPU"]:
        assert time.monotonic() < give_up, "actors of the run are still there"
        time.sleep(0.2)


@pytest.mark.usefixtures("ray_cluster", "chance_collects_nothing")
@pytest.mark.parametrize("rows", [250, pytest.param(10_000, marks=pytest.mark.long)])
def test_every_poisoned_row_has_its_outcome_and_no_good_one_is_lost(
    tmp_path: Path, gemma_folder: Path, rows: int
) -> None:
    assert len(KINDS) + len(ONCE) >= 15
    kinds, outcomes, colours = write_input(tmp_path / "in", rows)
    assert {*kinds} == {"fine", *KINDS, *ONCE}
    config = RunConfig.model_validate(
        {
            "input": str(tmp_path / "in"),
            "output": str(tmp_path / "out"),
            "engine": {"model": str(gemma_folder), "stall_seconds": STALL_S},
            "unit_rows": 1000,
            "max_image_bytes": MAX_BYTES,
            "dedup": False,  # every one of them shall be met
        }
    )
    result = run(config, ColourTask(), backend=FAKE)
    wait_for_all_cpus()
    table = ds.dataset(tmp_path / "out").to_table()
    assert table["kind"].to_pylist() == kinds
    wrong = Counter(
        (row["kind"], row["outcome"], row["error"])
        for row, due in zip(table.to_pylist(), outcomes, strict=True)
        if row["outcome"] != due
    )
    assert not wrong
    assert table["colour"].to_pylist() == colours
    assert result.outcomes == Counter(outcomes)
    assert all((row["error"] is None) == (row["outcome"] == "ok") for row in table.to_pylist())
