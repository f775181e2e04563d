"""Models on the hub, in a store, in a GGUF file: fetched once, and the same everywhere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import huggingface_hub.constants
import pytest

from pipeline.contract.config import EngineConfig
from pipeline.contract.errors import UserError
from pipeline.engine import adapters
from pipeline.engine.checkpoint import open_checkpoint, resolve_engine
from pipeline.engine.model_files import model_folder
from pipeline.engine.models import gguf, store
from pipeline.engine.models.cache import VARIABLE
from pipeline.engine.models.fetched import fetched, is_fetched, is_here
from pipeline.engine.renderer import GemmaRenderer
from pipeline.storage.location import StorageOptions, locate
from tests.hub import TOKEN, Hub
from tests.stores import S3
from tests.weights import write_weights

NAME = "us/gemma"
NEEDED = {
    "README.md",
    "chat_template.jinja",
    "config.json",
    "model.safetensors",
    "preprocessor_config.json",
    "tokenizer.json",
}


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without models; the hub's client may ask the hub."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_TOKEN", raising=False)


@pytest.fixture
def repository(gemma_folder: Path) -> Path:
    """A model's folder as on the hub: with a card, and the weights in other formats too."""
    (gemma_folder / "README.md").write_text("# Gemma")
    (gemma_folder / ".gitattributes").write_text("*.safetensors filter=lfs")
    (gemma_folder / "original").mkdir()
    for other in ("pytorch_model.bin", "gemma.Q4_K_M.gguf", "original/consolidated.00.pth"):
        (gemma_folder / other).write_bytes(b"the same weights")
    return gemma_folder


@pytest.fixture
def hub(repository: Path) -> Iterator[tuple[Hub, StorageOptions]]:
    served = Hub()
    served.add(NAME, repository, "models")
    with served.running() as url:
        yield served, {"hf": {"endpoint": url}}


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def refused(model: str, options: StorageOptions | None = None) -> str:
    with pytest.raises(UserError) as error:
        open_checkpoint(model, options=options)
    assert "\n" not in str(error.value)
    return str(error.value)


def without_other_formats(folder: Path) -> Path:
    for path in [*folder.glob("*.bin"), *folder.glob("*.gguf")]:
        path.unlink()
    return folder


def test_a_model_on_the_hub_is_the_same_as_its_folder(
    hub: tuple[Hub, StorageOptions], repository: Path
) -> None:
    served, options = hub
    commit = served.repositories["models", NAME].head
    by_name = open_checkpoint(NAME, options=options)
    assert by_name.name == f"hf://{NAME}@{commit}"
    assert by_name.identity.revision == commit
    assert files(by_name.path) == NEEDED
    for name in (f"{NAME}@main", f"hf://{NAME}", f"hf://{NAME}@{commit}"):
        assert open_checkpoint(name, options=options).name == by_name.name
    by_folder = open_checkpoint(str(without_other_formats(repository)))
    assert by_folder.identity.now == by_name.identity.now
    assert by_folder.identity.revision is None


def test_of_several_processes_one_downloads(hub: tuple[Hub, StorageOptions]) -> None:
    served, options = hub
    with ThreadPoolExecutor(4) as pool:
        names = {*pool.map(lambda _: fetched(NAME, options), range(4))}
    assert len(names) == 1
    downloads = [line for line in served.log if line.startswith("GET") and "model.safete" in line]
    assert len(downloads) == 1
    asked = len(served.log)
    assert fetched(names.pop(), options)
    assert len(served.log) == asked, "a commit that is here needs no hub"


def test_what_others_have_downloaded_in_part_is_completed(
    hub: tuple[Hub, StorageOptions],
) -> None:
    """As `AutoTokenizer.from_pretrained` leaves it, without a listing of what there is."""
    _, options = hub
    endpoint = options["hf"]["endpoint"]
    for name in ("config.json", "tokenizer.json"):
        huggingface_hub.hf_hub_download(NAME, name, endpoint=endpoint)
    cached = Path(huggingface_hub.constants.HF_HUB_CACHE)
    (commit,) = {path.name for path in cached.glob("*/snapshots/*")}
    pinned = f"hf://{NAME}@{commit}"
    assert not is_here(pinned)
    assert fetched(NAME, options) == pinned
    assert files(model_folder(pinned)) == NEEDED
    assert is_here(pinned)


def test_renderers_fetch_no_weights(hub: tuple[Hub, StorageOptions]) -> None:
    _, options = hub
    checkpoint = open_checkpoint(NAME, options=options)
    config = resolve_engine(EngineConfig(model=NAME), checkpoint, options)
    assert options["hf"]["endpoint"] not in config.model_dump_json()
    shutil.rmtree(huggingface_hub.constants.HF_HUB_CACHE)  # another machine
    renderer = GemmaRenderer(config)
    assert renderer.count("words") > 0
    assert files(model_folder(config.model)) == NEEDED - {"model.safetensors"}
    assert not is_here(config.model)
    assert fetched(config.model, options) == config.model
    assert files(model_folder(config.model)) == NEEDED
    assert is_fetched(config.model)
    assert is_here(config.model)


def test_a_model_that_moves_on_stays_for_whoever_began_with_it(
    hub: tuple[Hub, StorageOptions], repository: Path
) -> None:
    _, options = hub
    first = fetched(NAME, options)
    write_weights(repository / "model.safetensors", weight=b"other weights")
    second = fetched(NAME, options)
    assert first != second
    now = [open_checkpoint(name, options=options).identity.now for name in (first, second)]
    assert now[0] != now[1]


def test_what_the_hub_does_not_give_is_one_line(
    hub: tuple[Hub, StorageOptions], capsys: pytest.CaptureFixture[str]
) -> None:
    served, options = hub
    page = f"https://huggingface.co/{NAME}"
    assert refused(f"{NAME}@v2", options) == f"model {NAME}@v2: has no revision 'v2' at {page}"
    absent = refused("us/absent", options)
    assert "is no folder here, and no model on the hub" in absent
    assert "https://huggingface.co/us/absent and set HF_TOKEN" in absent
    served.repositories["models", NAME].is_gated = True
    gated = refused(NAME, options)
    assert f"accept its licence at {page}, and set HF_TOKEN" in gated
    own = {"hf": {**options["hf"], "token": TOKEN}}
    assert open_checkpoint(NAME, options=own).profile.has_vision
    assert "should be hf://OWNER/NAME" in refused("hf://datasets/us/images", options)
    assert capsys.readouterr().err == ""


def test_without_a_network_what_was_downloaded_is_used(repository: Path) -> None:
    served = Hub()
    served.add(NAME, repository, "models")
    with served.running() as url:
        name = fetched(NAME, {"hf": {"endpoint": url}})
    options: StorageOptions = {"hf": {"endpoint": "http://127.0.0.1:9"}}
    assert fetched(NAME, options) == name
    told = refused("us/other", options)
    assert told.startswith("model us/other: the hub cannot be reached (")
    assert "or name a folder" in told


@pytest.fixture
def stored(repository: Path, s3: S3, request: pytest.FixtureRequest) -> str:  # noqa: ARG001
    uri = f"s3://models-{abs(hash(request.node.name))}/gemma"
    where = locate(uri)
    where.fs.mkdir(uri.split("/")[2])
    where.fs.put(f"{repository}/", f"{where.path}/", recursive=True)
    return uri


def test_a_model_in_a_store_is_the_same_as_its_folder(stored: str, repository: Path) -> None:
    by_uri = open_checkpoint(stored)
    assert files(by_uri.path) - {".complete", ".complete-but-weights"} == NEEDED
    by_folder = open_checkpoint(str(without_other_formats(repository)))
    assert by_folder.identity.now == by_uri.identity.now
    assert fetched(by_uri.name) == by_uri.name


def test_a_download_that_was_interrupted_continues(
    stored: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    download = store._download

    def fails(folder: object, info: object, path: Path) -> None:
        if info.path == "tokenizer.json":  # type: ignore[attr-defined]
            (path / f"{store.DRAFT}1").write_bytes(b"half of it")
            raise ConnectionResetError("reset")
        download(folder, info, path)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(store, "_download", fails)
        assert refused(stored).startswith(f"model {stored}: ConnectionResetError: reset; ")
    (folder,) = (path for path in (tmp_path / "cache/store").iterdir() if path.is_dir())
    assert "tokenizer.json" not in files(folder)
    checkpoint = open_checkpoint(stored)
    assert checkpoint.path == folder
    assert not [name for name in files(folder) if name.startswith(store.DRAFT)]


def test_a_model_that_changes_in_its_store_is_another(stored: str, tmp_path: Path) -> None:
    first = fetched(stored)
    write_weights(tmp_path / "model.safetensors", weight=b"other weights")
    locate(stored).fs.put(str(tmp_path / "model.safetensors"), f"{stored}/model.safetensors")
    assert fetched(stored) != first
    assert fetched(first) == first, "it is here"
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(UserError, match="has changed since the run began"):
        fetched(first)


def test_a_store_that_does_not_have_it_is_one_line(stored: str) -> None:
    assert "has no config.json" in refused(f"{stored}/nothing")
    assert "there is no such bucket" in refused("s3://no-such-bucket/gemma")
    assert "a model is a folder" in refused("https://example.com/gemma")


def test_a_gguf_file_that_cannot_be_converted_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "there is no such file" in refused(str(tmp_path / "absent.gguf"))
    assert "download the file first" in refused("s3://bucket/model.gguf")
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    with monkeypatch.context() as patch:
        patch.setattr(gguf, "NEEDED", ("no_such_package",))
        assert "must be installed: pip install no_such_package" in refused(str(file))
    monkeypatch.setattr(gguf, "NEEDED", ())
    assert refused(str(file)).startswith(f"model {file} ")
    assert not [*(tmp_path / "cache/gguf").glob("*.partial/*")]


def test_a_folder_of_gguf_names_the_file(gemma_folder: Path) -> None:
    (gemma_folder / "model.safetensors").rename(gemma_folder / "gemma.gguf")
    assert "name its file gemma.gguf" in refused(str(gemma_folder))


@pytest.mark.parametrize(
    ("quantization", "fault"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "quantized by bitsandbytes"),
        ({"group_size": 64, "bits": 4}, "quantized by MLX"),
    ],
)
def test_weights_that_vllm_does_not_read_are_refused(
    gemma_folder: Path, quantization: dict[str, object], fault: str
) -> None:
    file = gemma_folder / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"quantization_config": quantization}))
    told = refused(str(gemma_folder))
    assert fault in told
    assert "which vLLM does not read; take a checkpoint that" in told
    for read in ("compressed-tensors", "fp8", "gptq", "awq"):
        file.write_text(json.dumps(config | {"quantization_config": {"quant_method": read}}))
        assert open_checkpoint(str(gemma_folder)).profile.has_vision


def test_an_adapter_on_the_hub_is_found_again_by_the_name_that_a_run_records(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A warm engine resolves what is resolved, and so does a retry."""
    pinned = f"hf://us/style@{'0' * 40}"
    monkeypatch.setattr(adapters, "fetched", lambda *_: pinned)
    once = adapters.fetch_adapters(EngineConfig(model="demo", lora={"a": "us/style"}))
    assert once == {"a": pinned}
    assert adapters.fetch_adapters(EngineConfig(model="demo", lora=once)) == once
