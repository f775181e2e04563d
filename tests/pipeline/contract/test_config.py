from __future__ import annotations

import pytest
from pydantic import ValidationError

from pipeline.contract.config import EngineConfig, RunConfig, describe_fault

ENGINE = {"model": "m"}


def fault(**fields: object) -> str:
    with pytest.raises(ValidationError) as error:
        RunConfig.model_validate({"input": "i", "output": "o", "engine": ENGINE, **fields})
    return describe_fault(error.value)


def test_a_fault_names_its_field() -> None:
    assert fault(unit_rows=0) == "unit_rows: input should be greater than 0 (got 0)"
    assert fault(engine={"model": "m", "dtype": "int8"}).startswith("engine.dtype: ")
    assert fault(unit_row=5).startswith("unit_row: extra inputs are not permitted")
    assert fault(input=" ") == "input: is empty; give it a value (got ' ')"


def test_a_configuration_is_frozen() -> None:
    config = EngineConfig(model="m")
    with pytest.raises(ValidationError):
        config.model = "n"  # type: ignore[misc]


def test_a_long_wrong_value_is_shortened() -> None:
    assert len(fault(unit_rows="x" * 5000)) < 200
