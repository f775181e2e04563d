"""CSV and TSV as INPUT."""

from __future__ import annotations

import csv
import gzip
import io
import random
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.contract.errors import UserError
from pipeline.contract.task import ColumnKind
from pipeline.images import ImageLimits, load_image
from pipeline.sources import FAULT, Kind, check_columns, list_input, open_source, records
from tests.pipeline.sample_images import encoded, plain
from tests.pipeline.sources.places import Place, passed_through, rows_of
from tests.stores import S3

HEADER = b"id,text\n"


def numbers(start: int, stop: int) -> bytes:
    return b"".join(b"%03d,t%d\n" % (n, n) for n in range(start, stop))


@pytest.mark.parametrize("suffix", [".csv", ".CSV.gz"])
def test_every_record_is_read_once_in_input_order(place: Place, suffix: str) -> None:
    pack = gzip.compress if suffix.endswith(".gz") else bytes
    place.write(f"a{suffix}", pack(HEADER + numbers(0, 25)))
    place.write(f"b{suffix}", pack(HEADER + numbers(25, 40).replace(b"\n", b"\r\n\r\n")))
    place.write(f"c{suffix}", pack(b"\xef\xbb\xbf" + HEADER + numbers(40, 42).removesuffix(b"\n")))
    place.write(f"d{suffix}", pack(HEADER))
    place.write(f"e{suffix}", pack(b"\n\n"))
    source = place.source()
    cuts = place.cuts(source)
    assert (source.kind, source.schema) == (
        Kind.CSV,
        pa.schema({"id": pa.string(), "text": pa.string()}),
    )
    assert [(c.files[0][0], c.start, c.stop) for c in cuts] == [
        ("a", 0, 10),
        ("a", 10, 20),
        ("a", 20, 25),
        ("b", 0, 10),
        ("b", 10, 15),
        ("c", 0, 2),
    ]
    ids = [f"{n:03d}" for n in range(42)]  # 007 stays 007
    assert [row["id"] for row in rows_of(source, cuts, ["id"])] == ids
    assert passed_through(source, cuts)["text"].to_pylist() == [f"t{n}" for n in range(42)]
    assert [row["id"] for row in rows_of(source, cuts[1:2], ["id"])] == ids[10:20]


def test_what_python_writes_is_read_back(place: Place) -> None:
    """Quotes, delimiters and line ends in fields, in units of three rows."""
    chance = random.Random(5)
    pieces = ["a", '"', '""', ",", "\n", "\r\n", "\r", " ", "é", "漢", ";", "\t", "'"]
    rows = [
        ["".join(chance.choices(pieces, k=chance.randrange(9))) for _ in "xy"] for _ in "a" * 90
    ]
    for name, dialect, delimiter in (("a.csv", "unix", ","), ("b.tsv", "excel-tab", "\t")):
        text = io.StringIO()
        writer = csv.writer(text, dialect)
        writer.writerows([["x", "y"], *rows])
        assert delimiter in text.getvalue()
        place.write(name, text.getvalue().encode())
    source = place.source(unit_rows=3)
    cuts = place.cuts(source)
    assert len(cuts) == 60
    expected = [{"x": x or None, "y": y or None} for x, y in rows] * 2
    assert rows_of(source, cuts, ["x", "y"]) == expected
    assert rows_of(source, cuts[7:8], ["y"]) == [{"y": row["y"]} for row in expected[21:24]]


def test_a_unit_is_read_from_its_own_bytes(s3: S3) -> None:
    place = Place(s3.url + "/in")
    body = HEADER + b"".join(b'%03d,"%s\n"\n' % (n, b"x" * 10_000) for n in range(1000))
    place.write("a.csv", body)
    source = place.source(unit_rows=100)
    last = place.cuts(source)[-1]
    assert last.offset > 8 * 2**20  # beyond what one request of the first unit gets
    place.write("a.csv", HEADER.ljust(last.offset - 1, b"x") + b"\n" + body[last.offset :])
    assert [row["id"] for row in rows_of(source, [last], ["id"])] == [
        f"{n}" for n in range(900, 1000)
    ]


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("a.csv", b"id;text\n1;a,b\n"),
        ("a.csv", b"id\ttext\n1\ta,b\n"),
        ("a.csv", b"id|text\n1|a,b\n"),
        ("a.csv", b'"id","text"\n"1","a,b"\n'),
        ("a.csv", b'\xef\xbb\xbf"id",text\r1,"a,b"\r'),
        ("a.tsv", b"id\ttext\n1\ta,b\n"),
        ("a.csv", b' id , text \n1,"a,b"\n'),
        ("d.csv", b"\n\r\nid;text\n1;a,b\n"),
    ],
)
def test_delimiters_and_line_ends_are_found(tmp_path: Path, name: str, body: bytes) -> None:
    place = Place(str(tmp_path))
    place.write(name, body)
    source = place.source()
    assert rows_of(source, place.cuts(source), ["id", "text"]) == [{"id": "1", "text": "a,b"}]


def test_columns_are_those_of_all_headers_and_without_a_name_by_place(place: Place) -> None:
    place.write("a.csv", b",id\n0,1\n")  # as pandas writes its index
    place.write("b.csv", b"new,id\nx,2\n")
    source = place.source()
    assert source.schema.names == ["column_1", "id", "new"]
    assert passed_through(source, place.cuts(source)).to_pylist() == [
        {"column_1": "0", "id": "1", "new": None},
        {"column_1": None, "id": "2", "new": "x"},
    ]


def test_what_cannot_be_read_of_a_row_costs_no_other_row(place: Place) -> None:
    place.write(
        "a.csv",
        HEADER
        + b"1,good\n"
        + b"2,too,many\n"
        + b"3\n"
        + b'4,"he said "hi" to me"\n'
        + b"5,caf\xe9\n"
        + b'6,"two\nlines"\n',
    )
    source = place.source(unit_rows=4)
    cuts = place.cuts(source)
    rows = rows_of(source, cuts, ["id", "text"])
    assert [row["id"] for row in rows] == ["1", None, None, None, "5", "6"]
    assert [row["text"] for row in rows] == ["good", None, None, None, None, "two\nlines"]
    assert [row.get(FAULT) for row in rows] == [
        None,
        "a.csv row 2 (byte 15): it has 3 fields, and the header 2",
        "a.csv row 3 (byte 26): it has 1 field, and the header 2",
        "a.csv row 4 (byte 28): its quotes do not match (',' expected after '\"')",
        "a.csv row 5 (byte 51): it is not UTF-8",
        None,
    ]
    assert not any(FAULT in row for row in rows_of(source, cuts[1:], ["id"]))
    assert passed_through(source, cuts).to_pylist()[4] == {"id": "5", "text": None}


def test_with_the_schema_recorded_no_file_is_opened(place: Place) -> None:
    place.write("a.csv.gz", b"not packed")
    schema = pa.schema({"n": pa.string()})
    source = open_source(list_input(place.uri), unit_rows=2, keep_images=False, schema=schema)
    assert source.schema == schema


def test_paths_of_images_are_found_from_the_root(place: Place) -> None:
    place.write("a.csv", b"image\np/x.png\n")
    place.write("p/x.png", encoded(plain((1, 2, 3)), "PNG"))
    listing = list_input(f"{place.uri}/*.csv")
    source = open_source(listing, unit_rows=9, keep_images=False)
    check_columns(source.schema, {"image": ColumnKind.IMAGE})
    (row,) = rows_of(source, source.cut(listing.files), ["image"])  # type: ignore[arg-type]
    image = load_image(row["image"], source.root, ImageLimits(10**6, 10**6))
    assert image.getpixel((0, 0)) == (1, 2, 3)


REFUSED = {
    "only a header": (HEADER, " has no rows"),
    "no header": (b"\n\n", " has no rows"),
    "UTF-16": ("id,text\n1,a\n".encode("utf-16"), " is UTF-16; save it as UTF-8"),
    "Latin-1": (b"caf\xe9,text\n1,2\n", " is not UTF-8; save it as UTF-8"),
    "two columns": (b"id,id\n1,2\n", " has two columns 'id'; rename one of them"),
    "JSON lines": (
        b'{"a": 1}\n',
        " is JSON lines, not CSV; give it a name that ends in .jsonl, or take it away",
    ),
    "a workbook": (
        b"PK\x03\x04" + bytes(99),
        " is a zip archive, not CSV; unpack it, or take it away",
    ),
    "binary": (b"\x00\x01,\x02\n", " is not a readable CSV file; repair it or take it away"),
    "an open quote": (
        HEADER + b'1,a\n2,"b\n3,c\n',
        ", line 3: a quote is opened and never closed; mend it, or take the file away",
    ),
    "an open quote in the header": (
        b'id,"text\n1,2\n',
        ", line 1: a quote is opened and never closed; mend it, or take the file away",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_files_that_cannot_be_used_are_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    place = Place(str(tmp_path))
    body, message = REFUSED[kind]
    place.write("a.csv", body)
    with pytest.raises(UserError) as error:
        place.cuts(place.source())
    assert str(error.value) == f"INPUT {tmp_path}/a.csv{message}"


def test_a_damaged_gzip_file_is_refused(place: Place) -> None:
    packed = gzip.compress(HEADER + numbers(0, 30_000))
    place.write("a.csv.gz", packed[: len(packed) // 2])
    with pytest.raises(UserError, match="is not a readable gzip file; repair it or take it away"):
        place.cuts(place.source())
    place.write("a.csv.gz", HEADER + numbers(0, 3))
    with pytest.raises(
        UserError, match=r"is a CSV file, not gzip; give it a name that ends in \.csv"
    ):
        place.source()


def test_a_quote_that_is_never_closed_is_not_held_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "LONGEST", 10_000)
    place = Place(str(tmp_path))
    place.write("a.csv", HEADER + numbers(0, 3) + b'4,"open\n' + numbers(5, 5000))
    with pytest.raises(
        UserError, match=r"a\.csv, line \d+: the record is longer than 10,000 bytes"
    ):
        place.cuts(place.source())


@pytest.mark.parametrize(
    "name", ["ORCID", "BZhreg", "PAR10", "GIF8", "the,moov", "the,ftyp", "picture,WEBP", "ARROW1"]
)
def test_a_header_may_begin_like_another_format(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.csv").write_text(f"{name},name\n{'1,' * name.count(',')}2,Ann\n")
    place = Place(str(tmp_path))
    source = place.source()
    assert rows_of(source, place.cuts(source), ["name"]) == [{"name": "Ann"}]


def test_a_header_may_be_long(place: Place) -> None:
    names = [f"a column with a long name, number {n}" for n in range(4000)]
    header = ",".join(f'"{name}"' for name in names)
    assert len(header) > 2 * 64 * 1024
    place.write("a.csv", f"{header}\n{','.join(map(str, range(4000)))}\n".encode())
    source = place.source()
    assert source.schema.names == names
    assert rows_of(source, place.cuts(source), [names[3999]]) == [{names[3999]: "3999"}]


def test_images_come_before_csv(tmp_path: Path) -> None:
    """So a folder of images with a list of them stays one."""
    place = Place(str(tmp_path))
    place.write("a.csv", HEADER + numbers(0, 3))
    place.write("notes.txt", b"x")
    assert list_input(place.uri).kind is Kind.CSV
    place.write("x.jpg", b"x")
    assert list_input(place.uri).kind is Kind.IMAGES
