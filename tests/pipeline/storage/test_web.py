"""Files behind links: the query is asked for and stays out of paths."""

from __future__ import annotations

import gzip
import pickle
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import pytest

from pipeline.contract.errors import UserError
from pipeline.output.comparison import compare
from pipeline.output.extension import extended
from pipeline.sources import list_input, open_source
from pipeline.storage.location import locate
from tests.pipeline.sources.places import rows_of
from tests.web import Answering, serving

ROWS = b"text\ttitle; or heading\na\t1\nb\t2\n"
FILES = {
    "/in/a.tsv": ROWS,
    "/in/a.tsv.gz": gzip.compress(ROWS),
    "/in/a.jsonl.gz": gzip.compress(b'{"text": "a"}\n{"text": "b"}\n'),
    "/in/a.jpg": b"\xff\xd8\xff",
}


class Signed(Answering):
    """Files for those who have a signature; in the folder `/whole` never a part of them."""

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        body = FILES.get(path.replace("/whole/", "/in/"))
        if "X-Amz-Signature=" not in query or body is None:
            self.refuse(HTTPStatus.FORBIDDEN)
        elif path.startswith("/whole/"):
            self.send(body, HTTPStatus.OK, {})
        else:
            self.send_range(body, {"ETag": '"e"'})

    do_HEAD = do_GET


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with serving(Signed) as url:
        yield url


@pytest.mark.parametrize("name", [name for name in FILES if name != "/in/a.jpg"])
def test_a_signed_link_is_read_by_its_name_and_keeps_it(
    server: str, tmp_path: Path, name: str
) -> None:
    """Another signature is no other file: its rows would be there twice."""
    plan = None
    for signature in ("X-Amz-Signature=1%2F2&X-Amz-Credential=us/today", "X-Amz-Signature=3"):
        listing = list_input(f"{server}{name}?{signature}")
        assert [file.path for file in listing.files] == [name.rpartition("/")[2]]
        assert "X-Amz" not in str(listing.root / listing.files[0].path)
        schema = plan.schema if plan else None
        source = open_source(listing, unit_rows=1, keep_images=False, schema=schema)
        source = pickle.loads(pickle.dumps(source))
        assert [row["text"] for row in rows_of(source, source.cut(listing.files), ["text"])] == [
            "a",
            "b",
        ]
        if plan is not None:
            assert not compare(plan, listing)
        plan = extended(plan, locate(str(tmp_path)), listing, source)
    assert plan is not None
    assert plan.total_rows == 2


def test_a_server_that_sends_whole_files_only_is_refused(server: str) -> None:
    query = "X-Amz-Signature=1"
    with pytest.raises(UserError) as refusal:
        list_input(f"{server}/whole/a.tsv?{query}")
    assert str(refusal.value) == (
        f"INPUT {server}/whole/a.tsv: its server does not send parts of files; download it first"
    )
    listing = list_input(f"{server}/whole/a.jpg?{query}")  # which is read as a whole
    assert (listing.root / "a.jpg").read() == FILES["/in/a.jpg"]
