"""The tests' own Hub, asked by the real client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi, HfFileSystem, constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

from tests.hub import TOKEN, Hub


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    return Hub(new=tmp_path / "repositories", inline_bytes=1000)


@pytest.fixture
def url(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    with hub.running() as url:
        yield url


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_what_is_uploaded_is_there_and_commits_stay(
    hub: Hub, url: str, tmp_path: Path, kind: str
) -> None:
    api = HfApi(endpoint=url, token=TOKEN)
    where = {"repo_id": "us/new", "repo_type": kind}
    assert api.whoami()["name"] == "us"
    made = api.create_repo(**where)
    assert (made.repo_id, made.repo_type) == ("us/new", kind)
    with pytest.raises(HfHubHTTPError):
        api.create_repo(**where)
    (tmp_path / "up/sub").mkdir(parents=True)
    (tmp_path / "up/sub/large.bin").write_bytes(b"x" * 5000)
    (tmp_path / "up/README.md").write_text("# New\n")
    first = api.upload_folder(folder_path=tmp_path / "up", **where)
    assert {*hub.large.values()} == {b"x" * 5000}
    second = api.upload_file(path_or_fileobj=b"changed", path_in_repo="README.md", **where)
    assert api.repo_info(**where).sha == second.oid != first.oid
    assert sorted(api.list_repo_files(**where)) == ["README.md", "sub/large.bin"]
    prefix = "datasets/" if kind == "dataset" else ""
    fs = HfFileSystem(endpoint=url, token=TOKEN)
    assert fs.cat_file(f"{prefix}us/new/README.md") == b"changed"
    assert fs.cat_file(f"{prefix}us/new@{first.oid}/README.md") == b"# New\n"
    assert fs.cat_file(f"{prefix}us/new/sub/large.bin", start=4990) == b"x" * 10
    api.delete_file("README.md", **where)
    assert api.list_repo_files(**where) == ["sub/large.bin"]


def test_a_model_is_downloaded_and_a_gated_one_needs_the_token(
    hub: Hub, url: str, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    hub.add("them/model", folder, "models", is_gated=True)
    with pytest.raises(HfHubHTTPError, match="gated"):
        hf_hub_download("them/model", "config.json", endpoint=url, cache_dir=tmp_path / "no")
    got = snapshot_download("them/model", endpoint=url, token=TOKEN, cache_dir=tmp_path / "yes")
    assert (Path(got) / "config.json").read_text() == "{}"
    assert Path(got).name == hub.repositories["models", "them/model"].head
    with pytest.raises(EntryNotFoundError):
        hf_hub_download("them/model", "no", endpoint=url, token=TOKEN, cache_dir=tmp_path / "yes")
