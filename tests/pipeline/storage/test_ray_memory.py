"""Files in Ray's memory: the same for all processes, and gone afterwards."""

from __future__ import annotations

import pickle

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.storage.atomic import create, overwrite, remove
from pipeline.storage.location import Location, locate, stamp_of
from pipeline.storage.ray_memory import ray_folder
from pipeline.storage.walk import files_below

pytestmark = pytest.mark.usefixtures("ray_cluster")


def written_elsewhere(file: Location, body: bytes) -> tuple[bool, bytes]:
    """Create and read a file in another process."""
    import ray

    def write() -> tuple[bool, bytes]:
        return create(file, body), file.read()

    found: tuple[bool, bytes] = ray.get(ray.remote(num_cpus=0)(write).remote())
    return found


def test_what_one_process_writes_another_one_reads() -> None:
    with ray_folder() as uri:
        folder = locate(uri)
        assert create(folder / "a/b", b"ours")
        assert written_elsewhere(folder / "a/b", b"theirs") == (False, b"ours")
        body = bytes(range(256)) * 4096  # in the object store, not inside of a message
        assert written_elsewhere(folder / "c", body) == (True, body)
        assert (folder / "c").read() == body
        assert pickle.loads(pickle.dumps(folder / "c")).info() == (folder / "c").info()


def test_files_are_listed_as_on_a_store() -> None:
    with ray_folder() as uri:
        folder = locate(uri) / "out"
        assert (folder.names(), folder.exists()) == ([], False)
        for name in ("part-1", "part-2", "_x/part-3", "other"):
            create(folder / name, name.encode())
        assert sorted(folder.names("part-")) == ["part-1", "part-2"]
        assert [file.path for file in folder.tree()] == ["_x/part-3", "other", "part-1", "part-2"]
        assert [file.path for file in files_below(folder)] == ["other", "part-1", "part-2"]
        assert folder.is_folder()
        assert not (folder / "other").is_folder()
        assert not locate(f"{uri}/ou").exists()
        before = (folder / "other").info()
        overwrite(folder / "other", b"other")
        assert (folder / "other").info() == before
        overwrite(folder / "other", b"ohter")
        assert (folder / "other").info().stamp != before.stamp
        remove(folder / "other")
        with pytest.raises(FileNotFoundError):
            (folder / "other").read()


def test_arrow_reads_ranges() -> None:
    table = pa.table({"n": [*range(10_000)]})
    with ray_folder() as uri:
        file, sink = locate(uri) / "n.parquet", pa.BufferOutputStream()
        pq.write_table(table, sink, row_group_size=100)
        create(file, sink.getvalue().to_pybytes())
        with file.open() as opened, pq.ParquetFile(opened) as parquet:
            assert parquet.read_row_group(7)["n"].to_pylist() == [*range(700, 800)]
            assert stamp_of(opened) == file.info().stamp


def test_nothing_stays() -> None:
    with ray_folder() as one, ray_folder() as other:
        create(locate(one) / "x", b"1")
        create(locate(other) / "x", b"2")
        first, second = locate(one) / "x", locate(other) / "x"
        assert (first.read(), second.read()) == (b"1", b"2")
    for gone in (first, second):
        assert not gone.exists()
    # Nor does a file of a process that has ended.
    assert not locate("ray-memory://gemma3-batch-no-such-job/x").exists()


def test_an_error_leaves_nothing_either() -> None:
    def fail() -> None:
        with ray_folder() as uri:
            kept.append(locate(uri) / "x")
            create(kept[0], b"1")
            raise KeyError

    kept: list[Location] = []
    with pytest.raises(KeyError):
        fail()
    assert not kept[0].exists()
