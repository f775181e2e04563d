from __future__ import annotations

from collections.abc import Iterator

import pytest

from jobs import Engine


@pytest.fixture(scope="session")
def warm_engine(ray_cluster: None) -> Iterator[Engine]:  # noqa: ARG001
    """The bundled model, loaded once for all tests of the jobs."""
    with Engine(model="demo", max_images=2) as engine:
        yield engine
