from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable

import pyarrow as pa
import pytest

from pipeline.contract.errors import UserError
from pipeline.contract.task import ColumnKind
from pipeline.images import ImageLimits, load_image
from pipeline.sources import FAULT, check_columns, list_input, open_source
from tests.pipeline.sample_images import jpeg
from tests.pipeline.sources.places import Place, passed_through, rows_of

Members = Iterable[tuple[str, bytes]]


def tar(members: Members, format: int = tarfile.PAX_FORMAT) -> bytes:  # noqa: A002
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as shard:
        for name, body in members:
            info = tarfile.TarInfo(name)
            info.size = len(body)
            shard.addfile(info, io.BytesIO(body))
    return buffer.getvalue()


def samples(start: int, stop: int) -> list[tuple[str, bytes]]:
    """Samples as img2dataset writes them."""
    return [
        (f"{n:06d}.{suffix}", body)
        for n in range(start, stop)
        for suffix, body in (
            ("jpg", b"image %d" % n),
            ("txt", b"caption %d" % n),
            ("json", b'{"n": %d}' % n),
        )
    ]


@pytest.mark.parametrize("format_", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_sample_is_read_once_in_input_order(place: Place, format_: int) -> None:
    place.write("00000.tar", tar(samples(0, 25), format_))
    place.write("00001.tar", tar(samples(25, 32), format_))
    place.write("00002.tar", tar([]))
    source = place.source()
    cuts = place.cuts(source)
    assert [(cut.files, cut.start, cut.stop) for cut in cuts] == [
        (("00000.tar",), 0, 10),
        (("00000.tar",), 10, 20),
        (("00000.tar",), 20, 25),
        (("00001.tar",), 0, 7),
    ]
    assert rows_of(source, cuts, ["image", "txt"]) == [
        {"image": b"image %d" % n, "txt": f"caption {n}"} for n in range(32)
    ]
    assert passed_through(source, cuts).to_pylist() == [
        {"__key__": f"{n:06d}", "txt": f"caption {n}", "json": f'{{"n": {n}}}'} for n in range(32)
    ]
    assert passed_through(source, cuts).schema == source.passthrough_schema
    assert rows_of(source, cuts[1:2], ["__key__"])[0] == {"__key__": "000010"}


def test_a_unit_is_read_from_its_own_bytes(place: Place) -> None:
    shard = tar(samples(0, 30))
    place.write("a.tar", shard)
    source = place.source()
    last = place.cuts(source)[-1]
    place.write("a.tar", b"?" * last.offset + shard[last.offset :])
    assert [row["txt"] for row in rows_of(source, [last], ["txt"])] == [
        f"caption {n}" for n in range(20, 30)
    ]


@pytest.mark.parametrize("format_", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_unit_may_begin_at_a_long_name(place: Place, format_: int) -> None:
    keys = [f"{'d' * 120}/{'é' * 60}{n}" for n in range(5)]
    place.write("a.tar", tar([(f"{key}.jpg", b"x") for key in keys], format_))
    source = place.source(unit_rows=2)
    cuts = place.cuts(source)
    assert len(cuts) == 3
    assert passed_through(source, cuts).to_pydict() == {"__key__": keys}


def test_members_of_one_name_are_a_row(place: Place) -> None:
    shard = tar(
        [
            ("./a.JPG", b"1"),
            ("./a.cls", b"7"),
            ("./a.seg.png", b"mask"),
            ("a.png", b"second image"),
            ("README", b"no dot"),
            ("._a.jpg", b"hidden"),
            ("b.txt", b"no image"),
            ("dir/b.webp", b"2"),
            ("dir/b.npy", b"\x00"),
            ("a.webp", b"apart"),
            ("a.webp", b"again"),
        ]
    )
    place.write("a.tar", shard)
    source = place.source(keep_images=True)
    cuts = place.cuts(source)
    binary, text = pa.binary(), pa.string()
    assert source.schema == source.passthrough_schema
    assert dict(zip(source.schema.names, source.schema.types, strict=True)) == {
        "__key__": text,
        "image": binary,
        "cls": text,
        "seg.png": binary,
        "txt": text,
        "npy": binary,
    }
    found = passed_through(source, cuts).to_pylist()
    empty = dict.fromkeys(source.schema.names)
    assert found == [
        empty | {"__key__": "a", "image": b"1", "cls": "7", "seg.png": b"mask"},
        empty | {"__key__": "b", "txt": "no image"},
        empty | {"__key__": "dir/b", "image": b"2", "npy": b"\x00"},
        empty | {"__key__": "a", "image": b"apart"},
        empty | {"__key__": "a", "image": b"again"},
    ]


def test_folders_and_links_are_no_members(place: Place) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as shard:
        for name, kind in (("d.jpg", tarfile.DIRTYPE), ("l.jpg", tarfile.SYMTYPE)):
            info = tarfile.TarInfo(name)
            info.type = kind
            info.linkname = "/etc/passwd"
            shard.addfile(info)
        info = tarfile.TarInfo("a.jpg")
        info.size = 1
        shard.addfile(info, io.BytesIO(b"x"))
    place.write("a.tar", buffer.getvalue())
    source = place.source()
    assert rows_of(source, place.cuts(source), ["__key__"]) == [{"__key__": "a"}]


def test_columns_come_from_the_first_hundred_samples(place: Place) -> None:
    members = [*samples(0, 99), ("x.caption", b"in"), ("y.late", b"out")]
    place.write("a.tar", tar(members))
    source = place.source(unit_rows=200)
    assert source.schema.names == ["__key__", "image", "txt", "json", "caption"]
    (row,) = rows_of(source, place.cuts(source), ["__key__", "image", "caption"])[-1:]
    assert row == {"__key__": "y", "image": None, "caption": None}


def test_a_text_that_is_not_utf8_is_a_fault_where_it_is_asked_for(place: Place) -> None:
    place.write("a.tar", tar([("a.txt", b"\xff"), ("a.jpg", b"1"), ("b.txt", b"fine")]))
    source = place.source()
    cuts = place.cuts(source)
    assert rows_of(source, cuts, ["txt"]) == [
        {"txt": None, FAULT: "a.tar sample a: 'txt' is not UTF-8"},
        {"txt": "fine", FAULT: None},
    ]
    assert rows_of(source, cuts, ["image"]) == [{"image": b"1"}, {"image": None}]
    assert passed_through(source, cuts)["txt"].to_pylist() == [None, "fine"]


def test_images_of_a_shard_are_decoded(place: Place) -> None:
    place.write("a.tar", tar([("a.jpg", jpeg())]))
    source = place.source()
    check_columns(source.schema, {"image": ColumnKind.IMAGE, "__key__": ColumnKind.VALUE})
    (row,) = rows_of(source, place.cuts(source), ["image"])
    assert load_image(row["image"], source.root, ImageLimits(10**6, 10**6)).size == (32, 24)


def test_with_the_schema_recorded_no_shard_is_opened(place: Place) -> None:
    place.write("a.tar", b"not a tar file")
    schema = pa.schema({"__key__": pa.string()})
    source = open_source(list_input(place.uri), unit_rows=2, keep_images=False, schema=schema)
    assert source.schema == schema


WHOLE = tar([("a.jpg", b"x" * 2000), ("b.jpg", b"y" * 2000), ("c.jpg", b"z" * 2000)])
MEMBER = 512 + 2048


@pytest.mark.parametrize(
    "length",
    [1, 511, 513, 700, MEMBER, MEMBER + 100, 2 * MEMBER + 512, 3 * MEMBER - 1, 3 * MEMBER],
)
def test_a_shard_cut_anywhere_is_refused(place: Place, length: int) -> None:
    place.write("a.tar", tar([("x.jpg", b"x")]))
    place.write("b.tar", WHOLE[:length])
    source = place.source()
    message = f"INPUT {place.uri}/b.tar is not a readable tar file; repair it or take it away"
    with pytest.raises(UserError) as error:
        place.cuts(source)
    assert str(error.value) == message


def test_a_damaged_header_is_refused_and_an_empty_shard_has_no_rows(place: Place) -> None:
    damaged = bytearray(WHOLE)
    damaged[MEMBER + 150] ^= 1  # in the checksum of the second header
    place.write("a.tar", bytes(damaged))
    with pytest.raises(UserError, match=r"a\.tar is not a readable tar file"):
        place.cuts(place.source())
    place.write("a.tar", tar([]))
    with pytest.raises(UserError, match=r"a\.tar has no rows"):
        place.source()


def test_a_shard_that_breaks_after_planning_raises_when_it_is_read(place: Place) -> None:
    place.write("a.tar", WHOLE)
    source = place.source()
    cuts = place.cuts(source)
    for length in (100, MEMBER + 700, 2 * MEMBER):
        place.write("a.tar", WHOLE[:length])
        with pytest.raises(OSError, match=r"a\.tar is"):
            rows_of(source, cuts, ["image"])
