from __future__ import annotations

import time
from pathlib import Path

import pytest

from pipeline.contract.errors import RowError
from pipeline.contract.record import Outcome
from pipeline.images import ImageLimits, StoreError, fetch, load_image
from pipeline.storage.location import Location, locate
from pipeline.storage.refusals import Refusal
from tests.pipeline.sample_images import encoded, jpeg, plain
from tests.pipeline.server import in_turn, respond, serving
from tests.stores import GCS, S3

LIMITS = ImageLimits(max_bytes=10**6, max_pixels=10**6)
RED = (200, 30, 40)


@pytest.fixture
def root(tmp_path: Path) -> Location:
    return locate(str(tmp_path))


def fault_of(value: object, root: Location, limits: ImageLimits = LIMITS) -> RowError:
    with pytest.raises(RowError) as error:
        load_image(value, root, limits)
    assert "\n" not in str(error.value)
    return error.value


MISSING = {
    "null": None,
    "null struct": {"bytes": None, "path": None},
    "no file": "absent.jpg",
    "no file, in a struct": {"bytes": None, "path": "absent.jpg"},
    "a folder": "folder",
    "an empty path": "",
    "a path with a null byte": "a\0b.jpg",
    "a URI that no store takes": "ftp://example.org/x.jpg",
    "a link to this machine": "http://127.0.0.1/x.jpg",
    "a link to the metadata service": "http://169.254.169.254/latest/meta-data/",
    "a link that cannot be read": "https://",
    "no file behind a URI": "file:///there/is/no/such.jpg",
}
WITHOUT_BYTES_OR_WITH_TOO_MANY = {
    "no bytes": b"",
    "no bytes, in a struct": {"bytes": b"", "path": "good.jpg"},
    "more bytes than the limit": jpeg() + b"\0" * 10**6,
}


@pytest.mark.parametrize("kind", MISSING)
def test_an_image_that_is_not_there_is_missing_input(kind: str, root: Location) -> None:
    (Path(root.path) / "folder").mkdir()
    fault = fault_of(MISSING[kind], root)
    assert (fault.outcome, fault.stage) == (Outcome.MISSING_INPUT, "fetch")


@pytest.mark.parametrize("kind", WITHOUT_BYTES_OR_WITH_TOO_MANY)
def test_an_image_without_bytes_or_with_too_many_is_a_decode_error(
    kind: str, root: Location
) -> None:
    body = WITHOUT_BYTES_OR_WITH_TOO_MANY[kind]
    (Path(root.path) / "x.jpg").write_bytes(body if isinstance(body, bytes) else b"")
    for value in (body, "x.jpg"):
        fault = fault_of(value, root)
        assert (fault.outcome, fault.stage) == (Outcome.DECODE_ERROR, "fetch")


@pytest.mark.parametrize("cell", ["\\xffd8" + "00ff" * 20_000, "data:image/png;base64,AAAA" * 9000])
def test_text_that_has_an_image_is_named_and_not_repeated(cell: str, root: Location) -> None:
    with pytest.raises(RowError, match="no path or link; give bytes") as raised:
        fetch.fetch_image(cell, root, ImageLimits(10**6, 10**6))
    assert raised.value.outcome is Outcome.MISSING_INPUT
    assert len(str(raised.value)) < 200


def test_limits_themselves_are_allowed(root: Location) -> None:
    body = encoded(plain(size=(50, 20)), "PNG")
    exact = ImageLimits(max_bytes=len(body), max_pixels=1000)
    assert load_image(body, root, exact).size == (50, 20)
    assert fault_of(body, root, ImageLimits(len(body) - 1, 1000)).stage == "fetch"
    assert fault_of(body, root, ImageLimits(len(body), 999)).stage == "decode"


def test_a_path_is_absolute_or_from_the_root(root: Location, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/x.png").write_bytes(encoded(plain(RED), "PNG"))
    for value in ("sub/x.png", str(tmp_path / "sub/x.png"), {"bytes": None, "path": "sub/x.png"}):
        assert load_image(value, root, LIMITS).getpixel((0, 0)) == RED


def test_inline_bytes_come_before_the_path(root: Location) -> None:
    value = {"bytes": encoded(plain(RED), "PNG"), "path": "absent.png"}
    assert load_image(value, root, LIMITS).getpixel((0, 0)) == RED


def test_a_uri_names_its_own_store(root: Location, tmp_path: Path, s3: S3) -> None:
    body = encoded(plain(RED), "PNG")
    (tmp_path / "x.png").write_bytes(body)
    place = locate(s3.url)
    (place / "in/x.png").fs.pipe_file((place / "in/x.png").path, body)
    on_s3 = f"s3://{place.path}/in/x.png"
    for where in (root, place / "in"):
        for value in (f"file://{tmp_path}/x.png", on_s3, {"bytes": None, "path": on_s3}, "x.png"):
            assert load_image(value, where, LIMITS).getpixel((0, 0)) == RED


@pytest.mark.parametrize(
    ("value", "root", "store"),
    [
        ("s3://b/in/x.png", "/", "s3://b"),
        ("gs://b/x.png", "s3://a", "gs://b"),
        ("hf://datasets/us/them/x.png", "/", "hf://datasets/us/them"),
        ("x.png", "s3://b/in", "s3://b"),
        ({"bytes": None, "path": "x.png"}, "s3://b/in", "s3://b"),
        ("x.png", "/in", fetch.THIS_MACHINE),
        ("/in/x.png", "s3://b", fetch.THIS_MACHINE),
        ("file:///in/x.png", "s3://b", fetch.THIS_MACHINE),
        ("https://host/x.png", "s3://b", None),
        ("ftp://host/x.png", "s3://b", None),
        ({"bytes": b"x", "path": "x.png"}, "s3://b", None),
        (b"x", "s3://b", None),
        (None, "s3://b", None),
        ("", "s3://b", None),
    ],
)
def test_an_image_lies_in_a_store(value: object, root: str, store: str | None) -> None:
    assert fetch.store_of(value, locate(root)) == store


def test_faults_of_a_store_and_their_outcomes(root: Location, s3: S3) -> None:
    place = locate(s3.url)
    place.fs.pipe({f"{place.path}/empty.jpg": b"", f"{place.path}/long.jpg": b"x" * 1001})
    limits = ImageLimits(max_bytes=1000, max_pixels=100)
    for name, outcome, text in (
        ("absent.jpg", Outcome.MISSING_INPUT, "there is no file"),
        ("empty.jpg", Outcome.DECODE_ERROR, "no bytes"),
        ("long.jpg", Outcome.DECODE_ERROR, "more than the limit of 1,000"),
    ):
        fault = fault_of(f"s3://{place.path}/{name}", root, limits)
        assert (fault.outcome, fault.stage) == (outcome, "fetch")
        assert text in str(fault)
    before = len(s3.requests())
    fault_of("long.jpg", place, limits)
    assert s3.requests()[before:] == [f"GET /{place.path}/long.jpg"]  # one request, no HEAD


def test_a_bucket_of_google_that_is_not_there_is_not_just_a_missing_file(
    root: Location, gcs: GCS
) -> None:
    place = locate(f"{gcs.url}/x.png", gcs.options)
    place.fs.pipe_file(place.path, b"x")
    limits = ImageLimits(10**6, 10**6, storage_options=gcs.options)
    absent = fault_of(f"gs://{place.path}.absent", root, limits)
    assert "there is no file" in str(absent)
    assert not isinstance(absent, StoreError)
    fault = fault_of("gs://there-is-no-such-bucket/x.png", root, limits)
    assert isinstance(fault, StoreError)
    assert (fault.store, fault.refusal) == ("gs://there-is-no-such-bucket", Refusal.DENIED)


def test_a_store_that_fails_for_a_while_is_tried_again(
    root: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "FIRST_PAUSE_S", 0.01)
    failing = respond(500, b"<Error><Code>InternalError</Code></Error>")
    body = encoded(plain(RED), "PNG")
    with serving() as server:
        s3 = {
            "endpoint_url": server.url(""),
            "key": "k",
            "secret": "open-sesame",
            "config_kwargs": {"retries": {"mode": "standard", "max_attempts": 1}},
        }
        limits = ImageLimits(10**6, 10**6, fetch_seconds=20, storage_options={"s3": s3})
        server.routes["/b/x.png"] = in_turn(failing, failing, respond(200, body))
        assert load_image("s3://b/x.png", root, limits).getpixel((0, 0)) == RED
        server.routes["/b/x.png"] = respond(403, b"<Error><Code>AccessDenied</Code></Error>")
        assert "PermissionError" in str(fault_of("s3://b/x.png", root, limits))
        server.routes["/b/x.png"] = failing
        hasty = ImageLimits(10**6, 10**6, fetch_seconds=1, storage_options={"s3": s3})
        fault = fault_of("s3://b/x.png", root, hasty)
    assert fault.outcome is Outcome.MISSING_INPUT
    assert "s3://b/x.png cannot be read" in str(fault)


def test_a_store_that_is_silent_does_not_hold_a_row_for_ever(root: Location) -> None:
    with serving() as server:
        server.routes["/b/x.png"] = lambda _: time.sleep(5)
        s3 = {"endpoint_url": server.url(""), "key": "k", "secret": "open-sesame"}
        limits = ImageLimits(10**6, 10**6, fetch_seconds=0.5, storage_options={"s3": s3})
        begin = time.monotonic()
        assert fault_of("s3://b/x.png", root, limits).outcome is Outcome.MISSING_INPUT
        assert time.monotonic() - begin < 3


def test_a_link_is_fetched_and_decoded(root: Location) -> None:
    limits = ImageLimits(10**6, 10**6, allow_private=True)
    with serving() as server:
        server.routes |= {
            "/x.png": respond(200, encoded(plain(RED), "PNG")),
            "/page": respond(200, b"<html>not an image</html>"),
            "/empty": respond(200),
        }
        for value in (
            server.url("/x.png"),
            {"bytes": None, "path": server.url("/x.png", scheme="HTTP")},
        ):
            assert load_image(value, root, limits).getpixel((0, 0)) == RED
        outcomes = {
            path: fault_of(server.url(path), root, limits).outcome
            for path in ("/absent", "/page", "/empty")
        }
    assert outcomes == {
        "/absent": Outcome.MISSING_INPUT,
        "/page": Outcome.DECODE_ERROR,
        "/empty": Outcome.DECODE_ERROR,
    }


def test_no_credential_gets_into_an_error(root: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_open_sesame")
    for value in (
        "http://user:open-sesame@127.0.0.1/x.jpg?X-Amz-Signature=open-sesame",
        "ftp://user:open-sesame@host/x.jpg",
        "file:///absent.jpg?open-sesame",
        "absent/hf_open_sesame.jpg",
    ):
        assert "sesame" not in str(fault_of(value, root))
