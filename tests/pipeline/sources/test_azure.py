"""Azure as INPUT, with the extra `azure`."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.contract.errors import UserError
from pipeline.images import ImageLimits, load_image
from pipeline.sources import Kind, list_input, open_source
from pipeline.storage.access import check_access
from pipeline.storage.location import StorageOptions, is_writable, locate
from tests import azure
from tests.pipeline.sample_images import encoded, plain
from tests.pipeline.sources.places import rows_of


@pytest.fixture
def container(tmp_path: Path) -> Path:
    pytest.importorskip("adlfs")
    folder = tmp_path / "account" / "photos"
    (folder / "in/p").mkdir(parents=True)
    buffer = io.BytesIO()
    pq.write_table(pa.table({"image": ["p/x.png", "p/no.png"]}), buffer)
    (folder / "in/a.parquet").write_bytes(buffer.getvalue())
    (folder / "in/b.csv").write_text("id,text\n007,hello\n")
    (folder / "in/p/x.png").write_bytes(encoded(plain((1, 2, 3)), "PNG"))
    return folder


def access(connection: str) -> StorageOptions:
    return {"abfs": {"connection_string": connection}}


def test_files_and_images_are_read(container: Path) -> None:
    with azure.serving(container.parent) as connection:
        options = access(connection)
        check_access(locate("abfs://photos/in", options), "INPUT")
        listing = list_input("abfs://photos/in", options)
        assert [(file.path, bool(file.stamp)) for file in listing.files] == [("a.parquet", True)]
        source = open_source(listing, unit_rows=9, keep_images=False)
        rows = rows_of(source, source.cut(listing.files), ["image"])
        assert [row["image"] for row in rows] == ["p/x.png", "p/no.png"]
        limits = ImageLimits(10**6, 10**6, storage_options=options)
        for name in ("p/x.png", "abfs://photos/in/p/x.png", "az://photos/in/p/x.png"):
            assert load_image(name, source.root, limits).getpixel((0, 0)) == (1, 2, 3)
        for uri in ("abfs://photos/in/*.csv", "abfss://photos/in/b.csv"):
            tables = list_input(uri, options)
            assert tables.kind is Kind.CSV
            source = open_source(tables, unit_rows=9, keep_images=False)
            rows = rows_of(source, source.cut(tables.files), ["id", "text"])
            assert rows == [{"id": "007", "text": "hello"}]
        assert not is_writable(source.root)


@pytest.mark.parametrize(
    ("uri", "refuses", "message"),
    [
        ("abfs://photos/no", "", "INPUT abfs://photos/no does not exist"),
        ("abfs://no/in", "", "INPUT abfs://no/in does not exist"),
        ("abfs://photos/in", "AuthenticationFailed", "; give valid credentials"),
        ("abfs://photos/in", "AuthorizationFailure", "; check its name, the endpoint and the perm"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(
    container: Path, uri: str, refuses: str, message: str
) -> None:
    with azure.serving(container.parent, refuses) as connection, pytest.raises(UserError) as error:
        list_input(uri, access(connection))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("container")
def test_an_account_must_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ACCOUNT_NAME", "CONNECTION_STRING"):
        monkeypatch.delenv(f"AZURE_STORAGE_{name}", raising=False)
    with pytest.raises(UserError, match=r"^abfs://photos/in: .*; name the account \(abfs://CONT"):
        locate("abfs://photos/in", {"abfs": {"anon": True}})
    uri = f"abfs://photos@{azure.ACCOUNT}.dfs.core.windows.net/in"
    named = locate(uri, {"abfs": {"anon": True}})
    assert (named.fs.account_name, named.path) == (azure.ACCOUNT, "photos/in")


def test_without_the_extra_it_is_named() -> None:
    code = (
        "import sys; sys.modules['adlfs'] = None\n"
        "from pipeline.storage.location import locate\n"
        "try: locate('abfs://photos/in')\n"
        "except ValueError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("abfs://photos/in: its store's client is missing (ImportError: ")
    assert done.stdout.endswith("); install gemma3-batch[azure]\n")
