"""Engines that outlive a run: one that dies is replaced, and no row is blamed that did nothing."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import EngineConfig, Request, Sampling, run
from pipeline.contract.errors import RowError
from pipeline.contract.record import Outcome
from pipeline.contract.task import Generation
from pipeline.engine.interface import Backend, EngineDiedError, Rendered
from pipeline.engine.warm_connections import EngineConnection
from pipeline.engine.warm_hosts import EngineHost, RendererHost, WarmHosts
from tests.pipeline.execution.test_run import colours_dataset, config, read_back
from tests.pipeline.fakes import CRASHING, DEADLY, ColourTask, FakeEngine, FakeRenderer
from tests.pipeline.sample_images import encoded, plain

pytestmark = pytest.mark.usefixtures("ray_cluster")

DIE = "die"
"""A file in the model's folder: the next engine that is asked finds itself dead."""


class MortalEngine(FakeEngine):
    is_dead = False

    async def generate(self, rendered: Rendered, key: str) -> Generation:
        order = Path(self.config.model) / DIE
        if order.exists() and not self.is_dead:
            order.unlink()
            self.is_dead = True
        if self.is_dead:
            raise EngineDiedError("it was dead already")
        try:
            return await super().generate(rendered, key)
        except EngineDiedError:
            self.is_dead = True
            raise


MORTAL = Backend(name="fake", renderer=FakeRenderer, engine=MortalEngine)


@dataclass
class Warm:
    """Hosts, the model's folder, and a place for runs."""

    hosts: WarmHosts
    model: Path
    folder: Path


@pytest.fixture
def warm(request: pytest.FixtureRequest, tmp_path: Path, gemma_folder: Path) -> Iterator[Warm]:
    hosts = WarmHosts.start(
        EngineConfig(model=str(gemma_folder), max_num_seqs=16),
        engines=request.param,
        renderers=1,
        gpus_per_engine=0,
        holds=MORTAL,
    )
    yield Warm(hosts, gemma_folder, tmp_path)
    hosts.close()


@pytest.mark.parametrize("warm", [2], indirect=True)
def test_a_small_job_after_an_engines_death_succeeds(warm: Warm) -> None:
    records = colours_dataset(warm.folder / "in", 6)
    for number in range(2):
        (warm.model / DIE).touch()
        settings = config(warm.folder / "in", warm.folder / f"out-{number}", warm.model)
        result = run(settings, ColourTask(), backend=warm.hosts.backend())
        assert not (warm.model / DIE).exists(), "no engine died"
        assert result.outcomes == {"ok": 6}
    table = read_back(warm.folder / "out-1")
    assert table["colour"].to_pylist() == [record["colour"] for record in records]


@pytest.mark.long
@pytest.mark.parametrize("warm", [1], indirect=True)
def test_a_row_that_ends_engines_or_renderers_alone_is_blamed(warm: Warm) -> None:
    colours_dataset(warm.folder / "in", 20)
    images = [encoded(plain(colour), "PNG") for colour in (DEADLY, CRASHING)]
    bad = pa.table({"n": pa.array([900, 901], pa.int16()), "image": images})
    pq.write_table(bad, warm.folder / "in/000-bad.parquet")
    settings = config(warm.folder / "in", warm.folder / "out", warm.model, block_rows=4)
    result = run(settings, ColourTask(), backend=warm.hosts.backend())
    assert result.outcomes == {"ok": 20, "engine_error": 2}
    errors = {row["n"]: row["error"] for row in read_back(warm.folder / "out").to_pylist()}
    assert errors[900].startswith("generate: the process died or hung 3 times")
    assert errors[901].startswith("render: the process died or hung 3 times")


class PatientEngine(FakeEngine):
    async def generate(self, rendered: Rendered, key: str) -> Generation:
        (Path(self.config.model) / "begun").touch()
        try:
            return await asyncio.sleep(600, Generation("", 1, 1, "stop"))
        finally:
            (Path(self.config.model) / "given-up").touch()


def test_a_request_that_is_given_up_leaves_its_host(gemma_folder: Path) -> None:
    settings = EngineConfig(model=str(gemma_folder), max_num_seqs=16)
    patient = Backend(name="fake", renderer=FakeRenderer, engine=PatientEngine)
    hosts = WarmHosts.start(settings, engines=1, renderers=1, gpus_per_engine=0, holds=patient)

    async def until(name: str) -> None:
        while not (gemma_folder / name).exists():
            await asyncio.sleep(0.01)

    async def test() -> None:
        connection = hosts.backend().engine(settings)
        asked = asyncio.create_task(connection.generate(Rendered("x", 1, Sampling(1)), "k"))
        await until("begun")
        asked.cancel()
        await until("given-up")
        with pytest.raises(asyncio.CancelledError):
            await asked

    try:
        asyncio.run(asyncio.wait_for(test(), 60))
    finally:
        hosts.close()


def test_a_host_that_came_back_broken_is_not_used() -> None:
    """A row that it gets is not blamed for that."""

    def start(_: EngineConfig) -> FakeEngine:
        raise RuntimeError("no memory is left")

    host = EngineHost(EngineConfig(model="m"), start)
    rendered = Rendered(("x", []), 1, Sampling(1))
    answer = asyncio.run(host.generate(rendered, "k"))
    assert isinstance(answer, EngineDiedError)
    assert answer.fault is None
    assert isinstance(pickle.loads(pickle.dumps(answer)), EngineDiedError)

    lost: list[int] = []

    class Connection(EngineConnection):
        async def _choose(self) -> int:
            return 0

        def _lose(self, number: int) -> None:
            lost.append(number)

    class Remote:
        async def remote(self, *_: object) -> object:
            return answer

    connection = Connection([SimpleNamespace(generate=Remote(), model_class=Remote())])
    with pytest.raises(EngineDiedError, match="no memory is left"):
        asyncio.run(connection.generate(rendered, "k"))
    assert lost == [0]


def test_what_fails_in_a_host_is_told_by_its_cause() -> None:
    """As in an engine of the run's own; Ray's exceptions begin with a traceback."""

    class Failing(FakeEngine):
        async def generate(self, rendered: Rendered, key: str) -> Generation:
            raise KeyError("no such adapter")

    class Unable(FakeRenderer):
        def render(self, request: Request, images: object) -> Rendered:
            raise ValueError("the template has no language 'xx'")

        def count(self, text: str) -> int:
            raise ValueError("the template has no language 'xx'")

    engine = EngineHost(EngineConfig(model="m"), Failing)
    answer = asyncio.run(engine.generate(Rendered("x", 1, Sampling(1)), "k"))
    assert str(answer) == "generate: KeyError: 'no such adapter'"
    renderer = RendererHost(EngineConfig(model="m"), Unable)
    for failure in (renderer.render(Request("x", Sampling(1)), []), renderer.count("x")):
        assert isinstance(failure, RowError)
        assert str(failure) == "render: ValueError: the template has no language 'xx'"
        assert failure.outcome is Outcome.DECODE_ERROR
