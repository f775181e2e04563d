"""How a run's actors share a cluster. Ray's totals are enough; no cluster is needed."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline import EngineConfig, RunConfig, UserError
from pipeline.engine.warm_hosts import WarmHosts
from pipeline.execution.placement import place

H200 = {"CPU": 16.0, "GPU": 1.0}
EIGHT = {"CPU": 192.0, "GPU": 8.0}
LAPTOP = {"CPU": 2.0}


def run(**settings: Any) -> RunConfig:
    engine = {name: settings.pop(name) for name in ENGINE & settings.keys()}
    return RunConfig(
        input="-", output="-", engine=EngineConfig(model="model", **engine), **settings
    )


ENGINE = {"max_num_seqs", "tensor_parallel_size", "has_images"}


@pytest.mark.parametrize(
    ("resources", "settings", "engines", "gpus", "requests", "renderers"),
    [
        (H200, {}, 1, 1, 256, 14),
        (H200, {"has_images": False}, 1, 1, 1024, 14),
        (H200, {"has_images": False, "max_num_seqs": 3}, 1, 1, 3, 14),
        (EIGHT, {}, 8, 1, 256, 128),
        (EIGHT, {"tensor_parallel_size": 4}, 2, 4, 256, 32),
        (EIGHT, {"engine_replicas": 3, "max_num_seqs": 7}, 3, 1, 7, 48),
        (LAPTOP, {}, 1, 0, 64, 1),
        (LAPTOP, {"has_images": False}, 1, 0, 64, 1),
        (LAPTOP, {"max_num_seqs": 500, "render_workers": 3}, 1, 0, 500, 3),
    ],
)
def test_engines_take_the_gpus_and_renderers_the_rest(
    resources: dict[str, float],
    settings: dict[str, Any],
    engines: int,
    gpus: int,
    requests: int,
    renderers: int,
) -> None:
    placement = place(run(**settings), resources)
    seen = (placement.engines, placement.engine_gpus, placement.requests, placement.renderers)
    assert seen == (engines, gpus, requests, renderers)


@pytest.mark.parametrize("resources", [H200, EIGHT, LAPTOP, {"CPU": 1.0}])
def test_no_more_is_claimed_than_there_is(resources: dict[str, float]) -> None:
    """Ray would wait for the rest for ever."""
    placement = place(run(), resources)
    actors = placement.engines + placement.renderers
    assert 0 < placement.cpu_share * actors <= resources["CPU"]
    assert placement.engines * placement.engine_gpus <= resources.get("GPU", 0)


@pytest.mark.parametrize(
    ("resources", "settings", "message"),
    [
        (LAPTOP, {"tensor_parallel_size": 2}, "there is no GPU; leave it at 1"),
        (H200, {"tensor_parallel_size": 2}, r"1 engine\(s\) of 2 GPU\(s\) asked for.* has 1"),
        (EIGHT, {"engine_replicas": 9}, r"9 engine\(s\) of 1 GPU\(s\) asked for.* has 8"),
    ],
)
def test_too_few_gpus_are_an_error(
    resources: dict[str, float], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        place(run(**settings), resources)


@pytest.mark.parametrize("cpus", [1, 2, 4, 16, 200])
@pytest.mark.parametrize("gpus", [0, 1, 8])
def test_actors_and_tasks_always_fit(cpus: int, gpus: int) -> None:
    placement = place(run(), {"CPU": cpus, "GPU": gpus})
    actors = placement.engines + placement.renderers
    assert placement.cpu_share * (actors + placement.readers) <= cpus
    assert placement.cpu_share > 0
    assert placement.engine_gpus * placement.engines == gpus


def test_gpus_are_shared_out_by_tensor_parallel_size() -> None:
    placement = place(run(tensor_parallel_size=4), {"CPU": 64, "GPU": 8})
    assert (placement.engines, placement.engine_gpus, placement.renderers) == (2, 4, 32)
    with pytest.raises(UserError, match="the cluster has 8"):
        place(run(tensor_parallel_size=16), {"CPU": 64, "GPU": 8})
    with pytest.raises(UserError, match="there is no GPU"):
        place(run(tensor_parallel_size=2), {"CPU": 64})


@pytest.mark.parametrize(
    ("machines", "gpus_of_engine", "engines"),
    [([1, 1], 1, 2), ([6, 6], 4, 2), ([8, 4, 0], 4, 3), ([2, 1], 2, 1)],
)
def test_the_gpus_of_an_engine_are_on_one_machine(
    machines: list[int], gpus_of_engine: int, engines: int
) -> None:
    """Ray would wait for ever for a machine that has them all."""
    resources = {"CPU": 64.0, "GPU": float(sum(machines))}
    placement = place(run(tensor_parallel_size=gpus_of_engine), resources, machines)
    assert (placement.engines, placement.engine_gpus) == (engines, gpus_of_engine)
    settings = {"tensor_parallel_size": gpus_of_engine, "engine_replicas": engines + 1}
    with pytest.raises(UserError, match=f"{engines + 1} engine"):
        place(run(**settings), resources, machines)


def test_an_engine_that_fits_on_no_machine_is_refused() -> None:
    wanted = (
        r"tensor_parallel_size: an engine's 2 GPUs are on one machine, and .* here has 1; lower"
    )
    with pytest.raises(UserError, match=wanted):
        place(run(tensor_parallel_size=2), {"CPU": 32.0, "GPU": 2.0}, [1, 1])
    assert place(run(), {"CPU": 32.0}, [0, 0]).engine_gpus == 0


def test_a_run_on_a_warm_engine_is_for_all_engines_that_answer() -> None:
    """Its one actor passes rows on to all of them, and holds none of their GPUs."""
    warm = WarmHosts(engines=[None] * 8, renderers=[None]).backend()
    settings = {"engine_replicas": 1, "max_num_seqs": 8 * 256, "tensor_parallel_size": 2}
    cluster = {"CPU": 192.0, "GPU": 16.0}
    placement = place(run(**settings), cluster, [16], warm)
    assert (placement.engines, placement.engine_gpus, placement.requests) == (1, 0, 2048)
    own = place(run(tensor_parallel_size=2), cluster, [16])
    assert (placement.renderers, placement.readers, placement.parsers) == (
        own.renderers, own.readers, own.parsers
    ) == (128, 16, 2)  # fmt: skip
    actors = placement.engines + placement.renderers
    assert placement.cpu_share * (actors + placement.readers) <= 192
