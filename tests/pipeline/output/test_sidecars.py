"""Sidecars say what OUTPUT says, whatever is killed in between, and spare other people's files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.contract.errors import RunError, UserError
from pipeline.output.commit import NewParts, PatchedParts
from pipeline.output.extension import extended
from pipeline.output.journal import OF_RETRIES, Journal, entry_schema
from pipeline.output.plan import Plan
from pipeline.output.sidecars import Sidecars, WithSidecars, sidecars_of
from pipeline.sources import Kind, Listing, Source, list_input, open_source
from pipeline.sources.units import Work
from pipeline.storage import atomic
from pipeline.storage.file_table import tabulate
from pipeline.storage.location import Location, locate
from tests.pipeline.output.samples import RESULTS, entries, failed
from tests.stores import new_folder

STORES = pytest.mark.parametrize("output", ["disk", "s3"], indirect=True)

IMAGES = ("a.jpg", "b.PNG", "sub/a.jpg", "sub/c.v1.jpeg")
TEXTS = {name.rpartition(".")[0] + ".txt": f"t{place}" for place, name in enumerate(IMAGES)}


@pytest.fixture
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """An empty OUTPUT: on a disk, unless a test names another store."""
    if hasattr(request, "param"):
        return new_folder(request, tmp_path / "out")
    return locate(str(tmp_path / "out"))


@pytest.fixture
def photos(output: Location, tmp_path: Path) -> Location:
    """A folder of images on the same kind of store as OUTPUT."""
    folder = locate(str(tmp_path / "in")) if output.is_local else output.parent / "photos"
    for name in IMAGES:
        put(folder / name, b"an image")
    return folder


def put(where: Location, body: bytes) -> None:
    atomic.overwrite(where, body)


def listed(photos: Location) -> Listing:
    images = [info for info in photos.tree() if not info.path.endswith(".txt")]
    return Listing(photos, Kind.IMAGES, tabulate(images))


def sources(photos: Location) -> tuple[Listing, Source]:
    listing = listed(photos)
    return listing, open_source(listing, unit_rows=2, keep_images=False)


def sidecars(output: Location, photos: Location, *, replaces_others: bool = False) -> Sidecars:
    return sidecars_of(output, listed(photos), RESULTS, replaces_others=replaces_others)


def commit_all(
    output: Location, photos: Location, bad: tuple[int, ...] = (), text: str = "t"
) -> tuple[Plan, NewParts]:
    """Both units of two images each, answered, without sidecars."""
    listing, source = sources(photos)
    plan = extended(None, output, listing, source)
    committer = NewParts(journal=Journal(output, RESULTS), source=source, run={"id": "run"})
    for index in range(len(plan)):
        unit = plan.unit(index)
        rows = range(2 * index, 2 * index + 2)
        good = [row for row in rows if row not in bad]
        table = entries(good, text)
        positions = pa.array([row - 2 * index for row in good], pa.int64())
        committer.journal.append(unit.id, table.set_column(0, table.schema.field(0), positions))
        committer.journal.append(unit.id, failed([row - 2 * index for row in rows if row in bad]))
        committer.commit(Work(unit))
    return plan, committer


def texts(photos: Location) -> Mapping[str, str]:
    """The text files that are there."""
    names = [info.path for info in photos.tree() if info.path.endswith(".txt")]
    return {name: (photos / name).read().decode() for name in names}


def test_each_image_with_an_answer_has_one(output: Location, photos: Location) -> None:
    plan, _ = commit_all(output, photos, bad=(1,))
    own = sidecars(output, photos)
    assert len(own.lacking(plan)) == 2
    own.write_lacking(plan)
    assert texts(photos) == {name: text for name, text in TEXTS.items() if name != "b.txt"}
    assert own.lacking(plan) == []
    before = list(photos.tree())
    own.write(plan.unit(0).part)  # again: nothing changes
    assert list(photos.tree()) == before
    assert not [info.path for info in photos.tree() if info.path.endswith(".tmp")]


def test_a_commit_writes_them(output: Location, photos: Location) -> None:
    plan, committer = commit_all(output, photos)
    both = WithSidecars(committer=committer, sidecars=sidecars(output, photos))
    work = Work(plan.unit(1))
    assert both.is_committed(work)
    both.commit(work)  # which finds it committed
    assert texts(photos) == {name: TEXTS[name] for name in ("sub/a.txt", "sub/c.v1.txt")}
    assert both.sidecars.lacking(plan) == [plan.unit(0).part]
    assert both.journal is committer.journal


@STORES
def test_a_retry_brings_the_rest(output: Location, photos: Location) -> None:
    plan, _ = commit_all(output, photos, bad=(1,))
    own = sidecars(output, photos)
    own.write_lacking(plan)
    patches = PatchedParts(journal=Journal(output, RESULTS, OF_RETRIES), run={"id": "again"})
    unit = plan.unit(0)
    patches.journal.append(unit.id, entries([0, 1], "new"))
    patches.commit(Work(unit, (0, 1)))  # and its driver is killed before it writes sidecars
    assert own.lacking(plan) == [unit.part]
    own.write_lacking(plan)
    assert texts(photos) == {**TEXTS, "a.txt": "new0", "b.txt": "new1"}


def test_two_runs_write_them_at_once(
    output: Location, photos: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, _ = commit_all(output, photos)
    own, part = sidecars(output, photos), plan.unit(0).part
    own.write(part)
    patches = PatchedParts(journal=Journal(output, RESULTS, OF_RETRIES), run={"id": "again"})
    patches.journal.append(plan.unit(0).id, entries([0, 1], "new"))
    patches.commit(Work(plan.unit(0), (0, 1)))
    names, is_first = Location.names, True

    def crossed(self: Location, prefix: str = "") -> list[str]:
        nonlocal is_first
        found = names(self, prefix)
        if is_first:
            is_first = False
            own.write(part)  # the other run, which removes the notes of the version before
        return found

    monkeypatch.setattr(Location, "names", crossed)
    own.write(part)
    assert texts(photos) == {"a.txt": "new0", "b.txt": "new1"}


def test_what_is_no_answer_any_more_goes(output: Location, photos: Location) -> None:
    plan, _ = commit_all(output, photos)
    own = sidecars(output, photos)
    own.write_lacking(plan)
    put(photos / "b.txt", b"edited by hand")
    patches = PatchedParts(journal=Journal(output, RESULTS, OF_RETRIES), run={"id": "again"})
    unit = plan.unit(0)
    rows = [{**row, "outcome": "truncated"} for row in entries([0, 1]).to_pylist()]
    patches.journal.append(unit.id, pa.Table.from_pylist(rows, schema=entry_schema(RESULTS)))
    patches.commit(Work(unit, (0, 1)))
    own.write_lacking(plan)
    assert texts(photos) == {"b.txt": "edited by hand", "sub/a.txt": "t2", "sub/c.v1.txt": "t3"}


@STORES
def test_files_of_others_are_left_alone(output: Location, photos: Location) -> None:
    put(photos / "sub/a.txt", b"mine")
    put(photos / "notes.txt", b"of no image")
    own = sidecars(output, photos)
    with pytest.raises(UserError, match=r"1 \.txt files lie beside images already \(sub/a\.txt\)"):
        own.check(listed(photos), is_begun=False)
    plan, committer = commit_all(output, photos)
    with pytest.raises(RunError, match=r"sub/a\.txt was not written by this run; take it away"):
        own.write_lacking(plan)
    WithSidecars(committer=committer, sidecars=own).commit(Work(plan.unit(1)))  # says nothing yet
    assert texts(photos)["sub/a.txt"] == "mine"

    bold = sidecars(output, photos, replaces_others=True)
    bold.check(listed(photos), is_begun=False)
    bold.write_lacking(plan)
    assert texts(photos) == {**TEXTS, "notes.txt": "of no image"}


def test_a_kill_while_they_are_written_is_made_good(
    output: Location, photos: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written before it is known as ours, even where the answers have changed since."""
    plan, _ = commit_all(output, photos)
    own = sidecars(output, photos)
    with monkeypatch.context() as patched:
        overwrite = atomic.overwrite

        def killed(where: Location, body: bytes, *, sync: bool = True) -> None:
            if where.name == "b.txt":
                raise KeyboardInterrupt
            overwrite(where, body, sync=sync)

        patched.setattr("pipeline.output.sidecars.overwrite", killed)
        with pytest.raises(KeyboardInterrupt):
            own.write(plan.unit(0).part)
    assert texts(photos) == {"a.txt": "t0"}
    patches = PatchedParts(journal=Journal(output, RESULTS, OF_RETRIES), run={"id": "again"})
    patches.journal.append(plan.unit(0).id, entries([0, 1], "new"))
    patches.commit(Work(plan.unit(0), (0, 1)))
    own.write_lacking(plan)
    assert texts(photos) == {**TEXTS, "a.txt": "new0", "b.txt": "new1"}


def test_two_images_with_one_sidecar_are_refused(tmp_path: Path) -> None:
    photos = locate(str(tmp_path / "in"))
    for name in ("x.jpg", "x.y/z.jpg", "x.z.jpg", "x.png"):
        put(photos / name, b"")
    own = sidecars(locate(str(tmp_path / "out")), photos)
    with pytest.raises(UserError, match=r"x\.jpg and x\.png would share x\.txt"):
        own.check(list_input(photos.path), is_begun=True)


def test_where_there_is_no_place_for_them_they_are_refused(tmp_path: Path) -> None:
    place = locate(str(tmp_path / "in"))
    put(place / "a.jsonl", b'{"text": "x"}\n')
    output = locate(str(tmp_path / "out"))
    with pytest.raises(UserError, match="INPUT should be a folder of images"):
        sidecars_of(output, list_input(place.path), RESULTS, replaces_others=False)
    put(locate(str(tmp_path / "images")) / "a.jpg", b"")
    images = list_input(str(tmp_path / "images"))
    numbers = pa.schema([("p_x", pa.float64())])
    with pytest.raises(UserError, match="answers with numbers only"):
        sidecars_of(output, images, numbers, replaces_others=False)
    on_the_web = replace(images, root=locate("https://example.org/images"))
    with pytest.raises(UserError, match="cannot be written to"):
        sidecars_of(output, on_the_web, RESULTS, replaces_others=False)
