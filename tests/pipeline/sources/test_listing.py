from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.contract.errors import UserError
from pipeline.sources import Kind, list_input, open_source
from pipeline.storage.location import locate
from tests.pipeline.sources.places import Place, rows_of
from tests.stores import S3


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
        ("x.data", Kind.PARQUET),
        ("x.jsonl.gz", Kind.JSONL),
        ("_x.tar", Kind.WEBDATASET),
        ("x.webp", Kind.IMAGES),
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
    body = {"x.parquet": io.BytesIO(), "x.tar": io.BytesIO()}
    pq.write_table(pa.table({"txt": ["hello"] * 3}), body["x.parquet"])
    with tarfile.open(fileobj=body["x.tar"], mode="w") as shard:
        for number in range(3):
            info = tarfile.TarInfo(f"{number}.txt")
            info.size = 5
            shard.addfile(info, io.BytesIO(b"hello"))
    body["x.jsonl"] = io.BytesIO(b'{"txt": "hello"}\n' * 3)
    place.write(name, body[name].getvalue())
    stored = locate(f"{place.uri}/{name}")
    stored.fs.chmod(stored.path, "public-read")
    listing = list_input(f"{s3.endpoint}/{place.uri.removeprefix('s3://')}/{name}")
    source = open_source(listing, unit_rows=2, keep_images=False)
    cuts = [*source.cut(listing.files)]
    assert sum(cut.stop - cut.start for cut in cuts) == 3
    assert rows_of(source, cuts, ["txt"]) == [{"txt": "hello"}] * 3


def test_a_name_with_brackets_is_itself(tmp_path: Path) -> None:
    (tmp_path / "v[1]").mkdir()
    (tmp_path / "v[1]/a.parquet").write_bytes(b"x")
    assert names(str(tmp_path / "v[1]")) == ["a.parquet"]


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
    usable = "it should hold parquet, .jsonl or .tar files, or images"
    assert refused(place.uri) == f"INPUT {place.uri} does not exist"
    assert "does not exist" in refused(place.uri + "/*.parquet")
    place.write("empty.parquet", b"")
    assert refused(place.uri) == f"INPUT {place.uri} has nothing but empty files; {usable}"
    place.write("notes.txt", b"x")
    assert refused(place.uri) == (
        f"INPUT {place.uri} has no parquet, .jsonl or .tar files, or images (jpg, jpeg, png, "
        "webp, bmp, gif, tif, tiff); it has empty.parquet and 1 more"
    )
    assert refused(place.uri + "/x*") == f"INPUT {place.uri}/x* matches no file; check the pattern"
    assert "is not a pattern" in refused(place.uri + "/x**y")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    assert f"INPUT {tmp_path} is empty" in refused(str(tmp_path))


@pytest.mark.usefixtures("s3")
def test_a_bucket_that_is_not_there_is_refused() -> None:
    assert refused("s3://there-is-no-such-bucket/x") == (
        "INPUT s3://there-is-no-such-bucket/x does not exist"
    )
