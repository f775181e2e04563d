from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import feather

from pipeline.contract.errors import UserError
from pipeline.sources import Kind, list_input, open_source
from pipeline.sources.skipped import EXAMPLES, Reason
from pipeline.storage.location import locate
from tests.pipeline.sample_images import jpeg
from tests.pipeline.server import respond, serving
from tests.pipeline.sources.places import Place, rows_of
from tests.stores import S3


def test_every_file_is_read_or_counted_with_the_reason(place: Place) -> None:
    for name in ("a.parquet", "b.PARQUET", "x.jsonl", "1.jpg", "2.HEIC", "s.tar", "_no.txt", ".no"):
        place.write(name, b"x")
    for name in ("notes.txt", "sub/a.md", "b.csv", "c.csv", "a.jxl", "a.psd"):
        place.write(name, b"x")
    place.write("empty.parquet", b"")
    place.write("empty.jpg", b"")
    listing = list_input(place.uri)
    assert [file.path for file in listing.files] == ["a.parquet", "b.PARQUET"]
    found = {group.reason: (group.count, {*group.examples}) for group in listing.skipped}
    others = {"1.jpg", "2.HEIC", "a.jxl", "b.csv", "c.csv", "empty.jpg", "s.tar", "x.jsonl"}
    count, examples = found.pop(Reason.OTHER_KIND)
    assert (count, len(examples), examples <= others) == (8, EXAMPLES, True)
    assert found == {
        Reason.OTHER_IMAGE: (1, {"a.psd"}),
        Reason.UNKNOWN: (2, {"notes.txt", "sub/a.md"}),
        Reason.EMPTY: (1, {"empty.parquet"}),
    }


def names(uri: str) -> list[str]:
    return [file.path for file in list_input(uri).files]


def test_a_folder_has_the_files_of_its_first_kind(place: Place) -> None:
    def found() -> tuple[Kind, list[str]]:
        return list_input(place.uri).kind, names(place.uri)

    for name in ("b.jpg", "a/z.PNG", "_no/x.jpg", ".no.jpg", "a/_no.jpg", "notes.txt"):
        place.write(name, b"x")
    place.write("empty.png", b"")
    assert found() == (Kind.IMAGES, ["a/z.PNG", "b.jpg", "empty.png"])
    place.write("s/shard.tar", b"x")
    place.write("s/empty.tar", b"")
    assert found() == (Kind.WEBDATASET, ["s/shard.tar"])
    for name in ("d/x.jsonl", "m.ndjson.gz", "a.NDJSON", "a.jsonl.gz"):
        place.write(name, b"x")
    assert found() == (Kind.JSONL, ["a.NDJSON", "a.jsonl.gz", "d/x.jsonl", "m.ndjson.gz"])
    place.write("empty.parquet", b"")
    assert found()[0] is Kind.JSONL
    place.write("t.parquet", b"x")
    assert found() == (Kind.PARQUET, ["t.parquet"])


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("x.parquet", Kind.PARQUET),
        ("x.jsonl.gz", Kind.JSONL),
        ("_x.tar", Kind.WEBDATASET),
        ("x.webp", Kind.IMAGES),
        ("x.TSV", Kind.CSV),
    ],
)
def test_a_single_file_is_an_input(place: Place, name: str, kind: Kind) -> None:
    place.write(f"sub/{name}", b"x")
    place.write("sub/other.parquet", b"x")
    listing = list_input(f"{place.uri}/sub/{name}")
    assert (listing.kind, [file.path for file in listing.files]) == (kind, [name])
    assert (listing.root / name).read() == b"x"


@pytest.mark.parametrize(
    ("pattern", "root", "expected"),
    [
        ("*.parquet", "", ["a.parquet", "b.parquet"]),
        ("**/*.parquet", "", ["a.parquet", "b.parquet", "sub/c.parquet", "sub/deep/d.parquet"]),
        ("sub/**/[cd].parquet", "sub", ["c.parquet", "deep/d.parquet"]),
        ("?.parquet", "", ["a.parquet", "b.parquet"]),
        ("sub/d*", "sub", ["deep/d.parquet"]),  # a folder, with all that is in it
        ("*.jsonl", "", ["x.jsonl"]),
    ],
)
def test_a_glob_matches_files_and_folders(
    place: Place, pattern: str, root: str, expected: list[str]
) -> None:
    for name in ("a.parquet", "b.parquet", "sub/c.parquet", "sub/deep/d.parquet", "x.jsonl"):
        place.write(name, b"x")
    place.write("_no/a.parquet", b"x")
    listing = list_input(f"{place.uri}/{pattern}")
    assert [file.path for file in listing.files] == expected
    assert listing.root == locate(f"{place.uri}/{root}".rstrip("/"))


@pytest.mark.parametrize("name", ["x.parquet", "x.jsonl", "x.tar"])
def test_a_single_file_behind_a_link_is_an_input(s3: S3, name: str) -> None:
    place = Place(s3.url)
    body = {"x.parquet": table("parquet"), "x.tar": shard(), "x.jsonl": LINES}
    place.write(name, body[name])
    stored = locate(f"{place.uri}/{name}")
    stored.fs.chmod(stored.path, "public-read")
    listing = list_input(f"{s3.endpoint}/{place.uri.removeprefix('s3://')}/{name}")
    source = open_source(listing, unit_rows=2, keep_images=False)
    cuts = [*source.cut(listing.files)]
    assert sum(cut.stop - cut.start for cut in cuts) == 3
    assert rows_of(source, cuts, ["txt"]) == [{"txt": "hello"}] * 3


def test_a_name_that_is_no_text_is_told(tmp_path: Path) -> None:
    """No column of a table can hold it."""
    (tmp_path / "a.jpg").write_bytes(b"x")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jpg")).write_bytes(b"x")
    listing = list_input(str(tmp_path))
    assert [file.path for file in listing.files] == ["a.jpg"]
    assert [(group.reason, group.examples) for group in listing.skipped] == [
        (Reason.NAME, ("\ufffd.jpg",))
    ]


def test_a_name_with_brackets_is_itself(place: Place) -> None:
    for name in ("v [1]/a.parquet", "v 1/b.parquet", "v 2/c.parquet"):
        place.write(name, b"x")
    assert names(f"{place.uri}/v [1]") == ["a.parquet"]
    assert names(f"{place.uri}/v [1]/a.parquet") == ["a.parquet"]
    assert names(f"{place.uri}/v [2]") == ["v 2/c.parquet"]


def test_a_path_with_colons_is_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a::b").mkdir()
    (tmp_path / "a::b/x::y.parquet").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    listing = list_input("a::b")
    assert listing.root.path == str(tmp_path / "a::b")
    assert names(str(tmp_path / "a::b/x::y.parquet")) == ["x::y.parquet"]
    assert locate(f"file://{tmp_path}/a::b") == listing.root


def test_a_name_with_a_question_mark_has_its_suffix(place: Place) -> None:
    for name in ("what is this?.jpg", "Who am I?/1.jpg"):
        place.write(name, b"x")
    assert names(place.uri) == ["Who am I?/1.jpg", "what is this?.jpg"]
    assert names(f"{place.uri}/what is this?.jpg") == ["what is this?.jpg"]


def test_paths_are_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.parquet").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    assert list_input("*.parquet").root.path == str(tmp_path)
    assert names(".") == names("*.parquet") == names("a.parquet") == ["a.parquet"]


def test_size_and_stamp_are_those_of_the_file(place: Place) -> None:
    place.write("a.parquet", b"four")
    (file,) = list_input(place.uri).files
    (alone,) = list_input(f"{place.uri}/a.parquet").files
    assert file == alone
    assert (file.size, bool(file.stamp)) == (4, True)
    place.write("a.parquet", b"five")
    assert list_input(place.uri).files[0].stamp != file.stamp


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    (tmp_path / "in/sub").mkdir(parents=True)
    (tmp_path / "else").mkdir()
    (tmp_path / "else/a.jpg").write_bytes(b"x")
    (tmp_path / "in/there").symlink_to(tmp_path / "else")
    (tmp_path / "in/sub/back").symlink_to(tmp_path / "in")
    (tmp_path / "in/nowhere.jpg").symlink_to(tmp_path / "absent.jpg")
    assert names(str(tmp_path / "in")) == ["nowhere.jpg", "there/a.jpg"]


def test_placeholders_of_folders_on_s3_are_not_files(s3: S3) -> None:
    place = Place(s3.url + "/in")
    fs = locate(place.uri).fs
    for folder in ("in/", "in/sub/"):
        fs.call_s3("put_object", Bucket=place.uri.split("/")[2], Key=folder, Body=b"")
    assert f"INPUT {place.uri} is empty" in refused(place.uri)
    place.write("sub/a.jpg", b"x")
    assert names(place.uri) == ["sub/a.jpg"]
    assert names(place.uri + "/") == ["sub/a.jpg"]


def test_no_request_is_made_for_a_single_file_of_a_folder(s3: S3) -> None:
    place = Place(s3.url + "/in")
    location = locate(place.uri)
    location.fs.pipe({f"{location.path}/{n % 5}/{n}.jpg": b"x" for n in range(40)})
    before = len(s3.requests())
    assert len(list_input(place.uri).files) == 40
    assert len(list_input(place.uri + "/*/1*.jpg").files) == 11
    made = s3.requests()[before:]
    assert len(made) == 2, made
    assert all("list-type=2" in request for request in made)


def refused(uri: str) -> str:
    with pytest.raises(UserError) as error:
        list_input(uri)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_inputs_that_cannot_be_used_are_refused_in_one_line(place: Place) -> None:
    usable = "parquet, .jsonl, .tar or .csv files, images or videos"
    assert refused(place.uri) == f"INPUT {place.uri} does not exist"
    assert "does not exist" in refused(place.uri + "/*.parquet")
    place.write("empty.parquet", b"")
    assert refused(place.uri) == (
        f"INPUT {place.uri} has nothing but empty files; it should hold {usable}"
    )
    place.write("notes.txt", b"x")
    assert refused(place.uri) == (
        f"INPUT {place.uri} has no {usable}, but files that are not read: "
        "1 of no known format (notes.txt), 1 empty (empty.parquet)"
    )
    place.write("a.dat", b"id,text\n1,hello\n")
    assert refused(place.uri).endswith("; a.dat is a CSV file: give it a name that ends in .csv")
    assert refused(place.uri + "/x*") == f"INPUT {place.uri}/x* matches no file; check the pattern"
    assert "is not a pattern" in refused(place.uri + "/x**y")


def table(kind: str) -> bytes:
    buffer = io.BytesIO()
    writing = {"parquet": pq.write_table, "feather": feather.write_feather}[kind]
    writing(pa.table({"txt": ["hello"] * 3}), buffer)
    return buffer.getvalue()


def shard() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as written:
        for number in range(3):
            info = tarfile.TarInfo(f"{number}.txt")
            info.size = 5
            written.addfile(info, io.BytesIO(b"hello"))
    return buffer.getvalue()


LINES = b'{"txt": "hello"}\n' * 3
TAKEN = {
    "parquet": (table("parquet"), Kind.PARQUET),
    "json lines": (LINES, Kind.JSONL),
    "one json line": (b'{"txt": "hello"}', Kind.JSONL),
    "tar": (shard(), Kind.WEBDATASET),
    "image": (jpeg(), Kind.IMAGES),
}
REFUSED = {
    "csv": (b'id,txt\n1,hello\n2,"a, b"\n', "a CSV file; give it a name that ends in .csv"),
    "csv with quotes": (b'id;txt\r\n1;"two\r\nlines"\r\n2;x\r\n', "a CSV file; "),
    "tsv": (b"id\ttxt\n1\thello\n", "a TSV file; "),
    "json array": (b'[{"txt": "hello"},\n {"txt": "x"}]', "a JSON array; write its elements as JS"),
    "json document": (b'{\n  "txt": "hello"\n}', "a JSON document; write one object a line"),
    "text": (b"hello\nand so on, and so on\n", "plain text; "),
    "packed lines": (
        gzip.compress(LINES),
        "gzipped JSON lines; give it a name that ends in .jsonl",
    ),
    "packed": (gzip.compress(bytes(99)), "a gzip file; unpack it"),
    "packed csv": (
        gzip.compress(b"a,b\n1,2\n"),
        "a gzipped CSV file; give it a name that ends in .csv.gz",
    ),
    "zip": (b"PK\x03\x04" + bytes(30), "a zip archive; unpack it"),
    "feather": (table("feather"), "an Arrow (Feather) file; write it as parquet"),
    "lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        "a Git LFS pointer in place of a file; fetch the file itself with `git lfs pull`",
    ),
    "page": (b"<!DOCTYPE html><html><body>Sign in", "a web page; download the file itself"),
}


@pytest.mark.parametrize("kind", TAKEN)
def test_a_single_file_of_another_name_is_taken_for_what_it_is(tmp_path: Path, kind: str) -> None:
    body, expected = TAKEN[kind]
    (tmp_path / "data").write_bytes(body)
    listing = list_input(str(tmp_path / "data"))
    assert (listing.kind, [file.path for file in listing.files]) == (expected, ["data"])


@pytest.mark.parametrize("kind", REFUSED)
def test_a_single_file_that_is_not_read_is_refused_as_what_it_is(tmp_path: Path, kind: str) -> None:
    body, message = REFUSED[kind]
    (tmp_path / "data").write_bytes(body)
    assert refused(f"{tmp_path}/data").startswith(f"INPUT {tmp_path}/data is {message}")


def test_a_single_file_of_unknown_bytes_is_refused(place: Place) -> None:
    place.write("data", b"\x93\x00\xff" * 100)
    assert refused(f"{place.uri}/data") == (
        f"INPUT {place.uri}/data is of no known format; it should be one of parquet, .jsonl, "
        ".tar or .csv files, images or videos"
    )


WHAT = {
    "parquet": "a parquet file",
    "json lines": "JSON lines",
    "one json line": "JSON lines",
    "tar": "a tar file",
    "image": "an image",
}
RIGHT = {
    (".parquet", "parquet"),
    (".tar", "tar"),
    (".jsonl", "json lines"),
    (".jsonl", "one json line"),
    (".jsonl.gz", "packed lines"),
}


@pytest.mark.parametrize("suffix", [".parquet", ".tar", ".jsonl", ".jsonl.gz"])
def test_a_file_whose_name_is_wrong_is_refused_as_what_it_is(tmp_path: Path, suffix: str) -> None:
    for kind in [*TAKEN, *REFUSED]:
        (tmp_path / f"x{suffix}").write_bytes((TAKEN | REFUSED)[kind][0])
        if (suffix, kind) not in RIGHT:
            with pytest.raises(UserError) as error:
                Place(str(tmp_path)).source()
            message = str(error.value)
            assert message.startswith(f"INPUT {tmp_path}/x{suffix} "), message
            what = WHAT.get(kind) or REFUSED[kind][1].partition(";")[0]
            assert f" is {what}" in message, message


@pytest.mark.parametrize(
    ("code", "fix"),
    [
        ("ExpiredToken", "give valid credentials"),
        ("AccessDenied", "check its name, the endpoint and the permissions"),
    ],
)
def test_a_store_that_refuses_is_named_with_what_to_do(code: str, fix: str) -> None:
    with serving() as server:
        denied = f"<Error><Code>{code}</Code><Message>No.</Message></Error>".encode()
        server.routes["/b"] = server.routes["/b/x.parquet"] = respond(403, denied)
        options = {"s3": {"endpoint_url": server.url(""), "key": "k", "secret": "s"}}
        with pytest.raises(UserError) as error:
            list_input("s3://b/in", options)
    assert str(error.value) == f"INPUT s3://b/in cannot be listed: PermissionError: No.; {fix}"


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    assert f"INPUT {tmp_path} is empty" in refused(str(tmp_path))


@pytest.mark.usefixtures("s3")
def test_a_bucket_that_is_not_there_is_refused() -> None:
    assert refused("s3://there-is-no-such-bucket/x") == (
        "INPUT s3://there-is-no-such-bucket/x does not exist"
    )


def test_tables_of_many_files_are_refused_with_the_way_out(place: Place) -> None:
    place.write("t.lance/data/0.lance", b"x" * 99)
    assert "is of a Lance dataset: write its rows as parquet" in refused(place.uri)
    place.write("t/data/0.parquet", b"x")
    place.write("t/metadata/v1.metadata.json", b"{}")
    assert "is an Iceberg table (t/metadata/v1.metadata.json)" in refused(place.uri)
