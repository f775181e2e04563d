from __future__ import annotations

import pytest
from pydantic import ValidationError

from pipeline.contract.config import EngineConfig, RunConfig, describe_fault
from pipeline.contract.errors import UserError
from pipeline.execution.placement import place

ENGINE = {"model": "m"}


def fault(**fields: object) -> str:
    with pytest.raises(ValidationError) as error:
        RunConfig.model_validate({"input": "i", "output": "o", "engine": ENGINE, **fields})
    return describe_fault(error.value)


def test_a_fault_names_its_field() -> None:
    assert fault(unit_rows=0) == "unit_rows: input should be greater than 0 (got 0)"
    assert fault(engine={"model": "m", "dtype": "int8"}).startswith("engine.dtype: ")
    assert fault(unit_row=5).startswith("unit_row: extra inputs are not permitted")
    assert fault(input=" ").startswith("input: ")


def test_a_configuration_is_frozen() -> None:
    config = EngineConfig(model="m")
    with pytest.raises(ValidationError):
        config.model = "n"  # type: ignore[misc]


def run_config(**fields: object) -> RunConfig:
    engine = {"model": "m", "tensor_parallel_size": fields.pop("tensor_parallel_size", 1)}
    return RunConfig.model_validate({"input": "i", "output": "o", "engine": engine, **fields})


@pytest.mark.parametrize("cpus", [1, 2, 4, 16, 200])
@pytest.mark.parametrize("gpus", [0, 1, 8])
def test_actors_and_tasks_always_fit(cpus: int, gpus: int) -> None:
    placement = place(run_config(), {"CPU": cpus, "GPU": gpus})
    actors = placement.engines + placement.renderers
    assert placement.cpu_share * (actors + placement.readers) <= cpus
    assert placement.cpu_share > 0
    assert placement.engine_gpus * placement.engines == gpus


def test_gpus_are_shared_out_by_tensor_parallel_size() -> None:
    placement = place(run_config(tensor_parallel_size=4), {"CPU": 64, "GPU": 8})
    assert (placement.engines, placement.engine_gpus, placement.renderers) == (2, 4, 32)
    with pytest.raises(UserError, match="the cluster has 8"):
        place(run_config(tensor_parallel_size=16), {"CPU": 64, "GPU": 8})
    with pytest.raises(UserError, match="there is no GPU"):
        place(run_config(tensor_parallel_size=2), {"CPU": 64})


def test_a_long_wrong_value_is_shortened() -> None:
    assert len(fault(unit_rows="x" * 5000)) < 200
