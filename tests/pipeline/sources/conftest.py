from __future__ import annotations

from pathlib import Path

import pytest

from tests.pipeline.sources.places import Place


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty place, once on the disk and once on S3."""
    if request.param == "local":
        return Place(str(tmp_path / "in"))
    return Place(request.getfixturevalue("s3").url + "/in")
