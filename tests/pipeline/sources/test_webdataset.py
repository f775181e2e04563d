from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.contract.errors import UserError
from pipeline.contract.task import ColumnKind
from pipeline.images import ImageLimits, load_image
from pipeline.sources import FAULT, check_columns, list_input, open_source
from pipeline.sources.webdataset import BY_KEY
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
    of_a = empty | {"cls": "7", "seg.png": b"mask"}
    assert found == [
        of_a | {"__key__": "a.jpg", "image": b"1"},
        of_a | {"__key__": "a.png", "image": b"second image"},
        of_a | {"__key__": "a.webp", "image": b"apart"},
        empty | {"__key__": "b", "txt": "no image"},
        empty | {"__key__": "dir/b", "image": b"2", "npy": b"\x00"},
        empty | {"__key__": "a", "image": b"again"},
    ]


SAMPLES = {
    # The members of one sample, and the rows that they are: the key, and what is in its columns.
    "plain": ("a.jpg a.txt", {"a": "image=a.jpg txt=a.txt"}),
    "numbered": (
        "22.0/1.1.jpg 22.0/1.1.txt 22.0/1.2.jpg 22.0/1.2.txt 22.0/1.json",
        {
            "22.0/1.1": "image=22.0/1.1.jpg txt=22.0/1.1.txt json=22.0/1.json",
            "22.0/1.2": "image=22.0/1.2.jpg txt=22.0/1.2.txt json=22.0/1.json",
        },
    ),
    "one of a number": ("a.7.PNG a.7.txt", {"a.7": "image=a.7.PNG txt=a.7.txt"}),
    "numbered beside a plain one": (
        "a.jpg a.2.jpg a.txt",
        {"a": "image=a.jpg txt=a.txt", "a.2": "image=a.2.jpg txt=a.txt"},
    ),
    "its own text before the common one": (
        "a.txt a.0.1.jpg a.0.1.txt a.0.2.heic",
        {"a.0.1": "image=a.0.1.jpg txt=a.0.1.txt", "a.0.2": "image=a.0.2.heic txt=a.txt"},
    ),
    "named": (
        "a.input.jpg a.target.jpg a.txt",
        {"a.input": "image=a.input.jpg txt=a.txt", "a.target": "image=a.target.jpg txt=a.txt"},
    ),
    "named beside a plain one": ("a.jpg a.seg.png", {"a": "image=a.jpg seg.png=a.seg.png"}),
    "two of one name": ("a.jpg a.png", {"a.jpg": "image=a.jpg", "a.png": "image=a.png"}),
    "texts alone": ("a.txt a.en.txt", {"a": "txt=a.txt en.txt=a.en.txt"}),
    "texts of other names": (
        "a.1.jpg a.en.txt a.fr.txt",
        {"a.1": "image=a.1.jpg en.txt=a.en.txt fr.txt=a.fr.txt"},
    ),
}


def members_of(names: str) -> list[tuple[str, bytes]]:
    """Members that hold their own names."""
    return [(name, name.encode()) for name in names.split()]


def described(place: Place, unit_rows: int = 10) -> dict[str, str]:
    """The columns of each row that are not null, by its key."""
    source = place.source(unit_rows=unit_rows, keep_images=True)
    rows = passed_through(source, place.cuts(source)).to_pylist()
    assert len({row["__key__"] for row in rows}) == len(rows)
    return {
        row.pop("__key__"): " ".join(
            f"{name}={value if isinstance(value, str) else value.decode()}"
            for name, value in row.items()
            if value is not None
        )
        for row in rows
    }


@pytest.mark.parametrize("kind", SAMPLES)
def test_every_image_of_a_sample_is_a_row(tmp_path: Path, kind: str) -> None:
    place = Place(str(tmp_path))
    names, expected = SAMPLES[kind]
    place.write("a.tar", tar([*members_of(names), ("z.jpg", b"z.jpg")]))
    found = described(place, unit_rows=1)
    assert found.pop("z") == "image=z.jpg"
    assert found.keys() == expected.keys()
    assert {key: {*text.split()} for key, text in found.items()} == {
        key: {*text.split()} for key, text in expected.items()
    }


def test_a_unit_has_whole_samples(place: Place) -> None:
    place.write("a.tar", tar([(f"{n}.{i}.jpg", b"%d" % n) for n in range(5) for i in range(3)]))
    source = place.source(unit_rows=4)
    cuts = place.cuts(source)
    assert [(cut.start, cut.stop) for cut in cuts] == [(0, 6), (6, 12), (12, 15)]
    assert [row["image"] for row in rows_of(source, cuts[1:2], ["image"])] == [b"2"] * 3 + [
        b"3"
    ] * 3


@pytest.mark.parametrize("format_", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_that_lie_apart_are_one_sample(place: Place, format_: int) -> None:
    long = "é" * 150
    names = f"a.jpg b.1.jpg {long}.jpg c.txt {long}.txt b.1.txt a.txt c.jpg"
    place.write("0.tar", tar(members_of(names), format_))
    place.write("1.tar", tar(members_of("d.jpg d.txt e.jpg e.txt"), format_))
    source = place.source(unit_rows=3)
    assert [(cut.start, cut.stop, cut.offset) for cut in place.cuts(source)] == [
        (0, 2, BY_KEY),
        (2, 4, BY_KEY),
        (0, 2, 0),
    ]
    assert described(place, unit_rows=3) == {
        "a": "image=a.jpg txt=a.txt",
        "b.1": "image=b.1.jpg txt=b.1.txt",
        long: f"image={long}.jpg txt={long}.txt",
        "c": "image=c.jpg txt=c.txt",
        "d": "image=d.jpg txt=d.txt",
        "e": "image=e.jpg txt=e.txt",
    }


def test_all_images_may_come_before_all_texts(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    numbers = range(300)
    names = " ".join([*(f"{n}.jpg" for n in numbers), *(f"{n}.txt" for n in numbers)])
    place.write("0.tar", tar(members_of(names)))
    assert described(place) == {f"{n}": f"image={n}.jpg txt={n}.txt" for n in numbers}


def test_rows_of_an_earlier_plan_stay_what_they_were(place: Place) -> None:
    place.write("0.tar", tar(members_of("a.seg.png a.jpg a.png b.1.jpg b.2.jpg a.txt c.heic")))
    names = ("__key__", "image", "txt", "1.jpg")
    types = (pa.string(), pa.binary(), pa.string(), pa.binary())
    earlier = pa.schema([*zip(names, types, strict=True)])  # as a plan kept it
    listing = list_input(place.uri)
    source = open_source(listing, unit_rows=2, keep_images=True, schema=earlier)
    cuts = [*source.cut(listing.files)]
    assert [(cut.start, cut.stop) for cut in cuts] == [(0, 2), (2, 4)]
    assert all(cut.offset >= 0 for cut in cuts)
    empty = dict.fromkeys(names)
    assert passed_through(source, cuts).to_pylist() == [
        empty | {"__key__": "a", "image": b"a.jpg"},
        empty | {"__key__": "b", "1.jpg": b"b.1.jpg"},
        empty | {"__key__": "a", "txt": "a.txt"},
        empty | {"__key__": "c"},
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


def test_shards_whose_suffixes_differ_are_one_table(place: Place) -> None:
    place.write("0.tar", tar([("a.jpg", b"1"), ("a.txt", b"one")]))
    place.write("1.tar", tar([("b.jpg", b"2"), ("b.json", b"{}"), ("b.en.txt", b"two")]))
    source = place.source()
    assert source.schema.names == ["__key__", "image", "txt", "json", "en.txt"]
    first = {"__key__": "a", "txt": "one", "json": None, "en.txt": None}
    rows = [first, {"__key__": "b", "txt": None, "json": "{}", "en.txt": "two"}]
    assert passed_through(source, place.cuts(source)).to_pylist() == rows
    place.write("2.tar", tar([("c.jpg", b"3"), ("c.cls", b"7")]))
    later = source.with_columns_of(place.files()[2:])
    assert later.schema.names == [*source.schema.names, "cls"]
    assert passed_through(later, place.cuts(later))["cls"].to_pylist() == [None, None, "7"]


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
    message = f"INPUT {place.uri}/b.tar is not a readable tar file; repair it or take it away"
    with pytest.raises(UserError) as error:
        place.cuts(place.source())
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
