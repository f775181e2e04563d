"""The report as a file: what is in it for every format and store, and that nothing of it runs."""

from __future__ import annotations

import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.cli.tables import status_text
from jobs.report import rows as shown_rows
from jobs.report.columns import Column, Columns, Role
from jobs.report.rows import LONGEST, MOST_CHARACTERS, Limit, Rows
from jobs.report.write import write_report
from pipeline import UserError, status
from pipeline.output.extension import extended
from pipeline.output.plan import open_plan
from pipeline.sources import list_input, open_source
from pipeline.storage.location import locate
from tests.jobs.report.outputs import (
    caption_task,
    image_rows,
    make_output,
    moderation_task,
    scores,
    text_rows,
    translation_task,
)
from tests.stores import S3

HOSTILE = {
    1: "</script><script>document.title = 'run'</script><img src=x onerror=alert(1)>",
    2: "<!-- <script> -->{{ 7 * 7 }}{% raw %} \u2028 ]]> &lt; \x00 \u202e",
    3: "صورة لقط برتقالي (PNG)",
    4: "ภาพแมวสีส้มกำลังนั่งอยู่บนพรมสีแดง",
    5: "x" * 100_000,
}


class Parsed(HTMLParser):
    """The elements of a page: what a browser would run, load and show."""

    def __init__(self, body: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self._open: dict[str, str | None] | None = None
        self.feed(body)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open = dict(attrs) if tag == "script" else None

    def handle_data(self, data: str) -> None:
        if self._open is not None:
            self.scripts.append((self._open, data))

    def handle_endtag(self, tag: str) -> None:
        self._open = None

    @property
    def data(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            next(t for a, t in self.scripts if a.get("id") == "data")
        )
        return found


def answer(number: int) -> dict[str, Any]:
    if number % 10 == 9:
        error = f"decode: not an image in a known format ({number} bytes) <b>"
        return {"outcome": "decode_error", "error": error, "prompt_tokens": None}
    return {"caption": HOSTILE.get(number, f"caption {number}")}


def report(output: str, folder: Path, **options: Any) -> tuple[str, Parsed]:
    to = folder / "report.html"
    write_report(output, str(to), **options)
    body = to.read_text(encoding="utf-8")
    return body, Parsed(body)


def column(data: dict[str, Any], name: str) -> list[Any]:
    values: list[Any] = data["values"][name]
    return values


@pytest.mark.parametrize("output_format", ["parquet", "jsonl", "csv", "webdataset"])
def test_all_rows_are_in_it_as_they_are_in_every_format(tmp_path: Path, output_format: str) -> None:
    source = image_rows(tmp_path / "in", 40)
    out = make_output(
        str(tmp_path / "out"),
        caption_task(),
        source,
        answer,
        unit_rows=15,
        output_format=output_format,
        keep_images=output_format == "webdataset",
    )
    _, page = report(out, tmp_path)
    assert column(page.data, "name") == [f"drawing-{number:05d}.jpg" for number in range(40)]
    assert column(page.data, "caption") == [answer(number).get("caption") for number in range(40)]
    assert page.data["error"][9].endswith("(9 bytes) <b>")
    assert page.data["reason"] == [0 if number % 10 == 9 else -1 for number in range(40)]
    assert page.data["images"] == [[96, 72]] * 40


def test_nothing_of_the_data_is_markup_and_nothing_is_loaded(tmp_path: Path) -> None:
    source = image_rows(tmp_path / "in", 20)
    out = make_output(
        str(tmp_path / "out"), caption_task(prompt="<script>1</script>"), source, answer
    )
    body, page = report(out, tmp_path)
    executed = [attrs for tag, attrs in page.elements if tag == "script" and "type" not in attrs]
    assert len(executed) == 1
    assert {a["type"] for t, a in page.elements if t == "script" and "type" in a} == {
        "application/json"
    }
    assert not [t for t, _ in page.elements if t in ("img", "link", "iframe", "object", "base")]
    assert not [name for _, attrs in page.elements for name in attrs if name.startswith("on")]
    assert not [a for _, a in page.elements if "src" in a or "href" in a or "style" in a]
    policy = next(
        attrs["content"]
        for tag, attrs in page.elements
        if attrs.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert "&lt;script&gt;1&lt;/script&gt;" in body  # the prompt
    for _, text in page.scripts[:-1]:
        assert "<" not in text


def test_the_policy_lets_the_pages_own_style_and_script_through(tmp_path: Path) -> None:
    import base64
    import hashlib

    source = image_rows(tmp_path / "in", 3)
    out = make_output(str(tmp_path / "out"), caption_task(), source, answer)
    body, page = report(out, tmp_path)
    style = re.search(r"<style>(.*?)</style>", body, re.DOTALL)
    assert style is not None
    script = page.scripts[-1][1]
    for text in (style[1], script):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"sha256-{digest}" in body.replace("&#39;", "'")


def test_translations_know_their_language_and_their_source(tmp_path: Path) -> None:
    source = text_rows(tmp_path / "in", ["Good morning", "Good night"])

    given = {"text_ar": "صباح الخير", "text_zh_Hant": "早安", "text_ar_outcome": "ok"}
    out = make_output(
        str(tmp_path / "out"), translation_task("ar", "zh-Hant"), source, lambda _: given
    )
    _, page = report(out, tmp_path)
    found = {c["name"]: (c["role"], c["language"], c["of"]) for c in page.data["columns"]}
    assert found["text"] == ("source", "en", None)
    assert found["text_ar"] == ("answer", "ar", None)
    assert found["text_zh_Hant"] == ("answer", "zh-Hant", None)
    assert found["text_ar_lost"] == ("remark", None, "text_ar")
    assert page.data["images"] is None


def test_scores_have_the_thresholds_of_the_run(tmp_path: Path) -> None:
    source = image_rows(tmp_path / "in", 30)
    out = make_output(str(tmp_path / "out"), moderation_task(), source, scores)
    _, page = report(out, tmp_path, image_seconds=0)
    found = {c["label"]: c["threshold"] for c in page.data["columns"] if c["role"] == "score"}
    assert found == {"violence": 0.5, "weapons": 0.3}
    assert set(page.data["images"]) == {"images were not asked for"}


def test_an_unfinished_run_shows_what_there_is(tmp_path: Path) -> None:
    source = image_rows(tmp_path / "in", 40)
    made = {"units": lambda index: index == 1, "unit_rows": 10}
    out = make_output(str(tmp_path / "out"), caption_task(), source, answer, **made)
    body, page = report(out, tmp_path)
    assert page.data["count"] == 10
    assert "Not finished:" in body
    none = make_output(
        str(tmp_path / "none"), caption_task(), source, answer, units=lambda _: False
    )
    _, page = report(none, tmp_path)
    assert page.data["count"] == 0


def test_a_run_whose_input_grew_is_not_finished(tmp_path: Path) -> None:
    source = image_rows(tmp_path / "in", 10)
    out = make_output(str(tmp_path / "out"), caption_task(), source, answer)
    image_rows(tmp_path / "more", 15)
    os.rename(tmp_path / "more" / "00000000.parquet", tmp_path / "in" / "more.parquet")
    where, listing = locate(out), list_input(source)
    reads = open_source(listing, unit_rows=100, keep_images=False)
    extended(open_plan(where), where, listing, reads)
    body, _ = report(out, tmp_path, image_seconds=0)
    assert "<strong>Not finished:</strong> 10 of 25 rows are there (40.0 %); an earlier" in body
    assert "All 10 rows that are there are in this page." in body
    assert "not finished; an earlier run finished 2" in status_text(status(out))


def test_a_sample_stands_for_all(tmp_path: Path) -> None:
    source = image_rows(tmp_path / "in", 400)
    out = make_output(str(tmp_path / "out"), caption_task(), source, answer, unit_rows=50)
    _, page = report(out, tmp_path, rows=100, image_seconds=0)
    data = page.data
    assert data["count"] == 100
    shown = [data["outcome"].count(place) for place in range(len(data["outcomes"]))]
    for each, number in zip(data["outcomes"], shown, strict=True):
        assert number * each["weight"] == pytest.approx(each["rows"])
    assert {each["name"]: each["rows"] for each in data["outcomes"]} == {
        "ok": 360,
        "decode_error": 40,
    }


def columns(**roles: Role) -> Columns:
    found = tuple(Column(name=name, role=role, label=name) for name, role in roles.items())
    return Columns(all=found, naming="name" if "name" in roles else None, prefix="")


def test_texts_are_within_a_bound_however_long_and_many() -> None:
    rows, limit = Rows(), Limit(columns(text=Role.ANSWER))
    for start in range(0, 400, 100):
        rows.units += range(start, start + 100)
        rows.values.setdefault("text", []).extend(["é" * 300_000] * 100)
        limit.keep(rows)
    lengths = [*map(len, rows.values["text"])]
    assert sum(lengths) <= MOST_CHARACTERS
    assert len({*lengths}) == 1
    assert lengths[0] < LONGEST
    assert all(length + rows.cut["text"][row] == 300_000 for row, length in enumerate(lengths))


def test_a_wide_input_takes_no_room_from_what_was_asked_and_came_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shown_rows, "MOST_CHARACTERS", 100_000)
    monkeypatch.setattr(shown_rows, "OF_OTHERS", 25_000)
    given = {"error": "e" * 250, "name": "n" * 100, "text": "t" * 300, "long": "l" * 1000}
    wide = {f"c{number}": "value" for number in range(150)}
    rows = Rows(units=[*range(100)], positions=[0] * 100)
    rows.values = {name: [text] * 100 for name, text in (given | wide).items()}
    limit = Limit(columns(text=Role.ANSWER, **dict.fromkeys(["name", "long", *wide], Role.OTHER)))
    limit.keep(rows)
    assert rows.left_out[0] == "long"  # though cut: 20,000 of the 60,000 that the others may have
    assert not rows.cut
    assert {*rows.left_out} < {"long", *wide}
    assert all(values == [(given | wide)[name]] * 100 for name, values in rows.values.items())
    assert sum(len(v[0]) for name, v in rows.values.items() if name != "error") <= 1000


def test_text_that_is_not_utf8_is_shown_as_far_as_it_goes(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    bad = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\4\0\0\0"), pa.py_buffer(b"caf\xe9")]
    )
    pq.write_table(pa.table({"text": bad}), folder / "a.parquet")
    given = {"text_de": "Kaffee"}
    out = make_output(str(tmp_path / "out"), translation_task("de"), str(folder), lambda _: given)
    _, page = report(out, tmp_path)
    assert column(page.data, "text") == ["caf\ufffd"]
    assert column(page.data, "text_de") == ["Kaffee"]


def test_outputs_and_reports_may_lie_in_a_store(tmp_path: Path, s3: S3) -> None:
    source = image_rows(tmp_path / "in", 12)
    url = s3.url
    out = make_output(f"{url}/out", caption_task(), source, answer)
    done = write_report(out, f"{url}/report.html", storage_options=s3.options)
    assert (done.rows, done.images) == (12, 12)
    assert Parsed(locate(done.path).read().decode()).data["count"] == 12


def test_a_file_that_cannot_be_is_refused_in_one_line(tmp_path: Path) -> None:
    source = image_rows(tmp_path / "in", 3)
    out = make_output(str(tmp_path / "out"), caption_task(), source, answer)
    for to, why in (
        (f"{out}/report.html", "lies in OUTPUT"),
        (str(tmp_path), "is a folder"),
        ("https://example.org/a.html", "cannot be written to"),
        ("ftp://example.org/a.html", "no way to read or write"),
    ):
        with pytest.raises(UserError, match=why):
            write_report(out, to)
    with pytest.raises(UserError, match="not the OUTPUT of a run"):
        write_report(source, str(tmp_path / "a.html"))
