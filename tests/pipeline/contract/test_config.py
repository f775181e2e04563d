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


def test_the_address_of_a_server_holds_no_credentials() -> None:
    def endpoint(value: str) -> str | None:
        return EngineConfig(model="m", endpoint=value).endpoint

    assert endpoint("http://host:8000/v1/") == "http://host:8000/v1"
    assert endpoint("https://[::1]:8000/v1") == "https://[::1]:8000/v1"
    for wrong in ("host:8000", "ftp://host", "http://", "http://host:port/v1"):
        with pytest.raises(ValidationError):
            endpoint(wrong)
    for secret in ("http://me:secret@host/v1", "http://host/v1?key=secret"):
        told = fault(engine={"model": "m", "endpoint": secret})
        assert told.startswith("engine.endpoint: should hold no credentials")
        assert "secret" not in told


def test_an_endpoint_is_sent_more_requests_than_a_cpu_works_on() -> None:
    assert EngineConfig(model="m").requests(on_gpu=False) == 64
    url = "http://h/v1"
    assert EngineConfig(model="m", endpoint=url).requests(on_gpu=False) == 256
    texts = EngineConfig(model="m", endpoint=url, has_images=False)
    assert texts.requests(on_gpu=False) == 1024
    few = EngineConfig(model="m", endpoint=url, max_num_seqs=3)
    assert few.requests(on_gpu=True) == 3


def test_a_token_is_not_recorded_among_the_engine_s_arguments() -> None:
    with pytest.raises(
        ValidationError, match="'hf_token' is not to be set here; set HF_TOKEN in the"
    ):
        EngineConfig(model="m", engine_args={"hf_token": "hf_secret"})
