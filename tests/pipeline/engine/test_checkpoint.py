"""A model's folder: what is refused before anything starts, and what tells models apart."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.contract.config import EngineConfig
from pipeline.contract.errors import UserError
from pipeline.engine import identity
from pipeline.engine.checkpoint import open_checkpoint, resolve_engine
from pipeline.engine.model_files import BUNDLED
from tests.weights import write_weights

EARLIER = Path(__file__).parents[1] / "execution/earlier"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0a\nsize 33384568\n"
FIRST, SECOND = (f"model-0000{number}-of-00002.safetensors" for number in (1, 2))
INDEX = "model.safetensors.index.json"


def refused(folder: Path, **needs: bool) -> str:
    with pytest.raises(UserError) as error:
        open_checkpoint(str(folder), **needs)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_gemma_folder_is_recognised(gemma_folder: Path) -> None:
    checkpoint = open_checkpoint(str(gemma_folder), needs_images=True)
    assert (checkpoint.profile.has_vision, checkpoint.profile.max_positions) == (True, 1024)
    assert open_checkpoint(str(gemma_folder)).identity == checkpoint.identity


def test_the_bundled_model_has_the_same_name_everywhere() -> None:
    assert open_checkpoint("demo").path == BUNDLED["demo"]
    engine = resolve_engine(EngineConfig(model="demo"), open_checkpoint("demo"))
    assert (engine.model, engine.prompt_format) == (str(BUNDLED["demo"]), "template")


def test_what_is_wrong_with_a_folder_is_named(gemma_folder: Path, tmp_path: Path) -> None:
    absent = refused(tmp_path / "absent")
    assert "is not a folder here" in absent
    assert "--model" not in absent
    (tmp_path / "bare").mkdir()
    assert "has no config.json" in refused(tmp_path / "bare")
    (tmp_path / "bare/config.json").write_text("{")
    assert "cannot be read" in refused(tmp_path / "bare")
    (tmp_path / "bare/config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    assert "is LlamaForCausalLM, not a Gemma 3" in refused(tmp_path / "bare")
    (gemma_folder / "tokenizer.json").unlink()
    assert "no tokenizer.json" in refused(gemma_folder)
    (gemma_folder / "model.safetensors").unlink()
    assert "no *.safetensors" in refused(gemma_folder)


def cut_off(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def cut_in_the_header(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:20])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def too_long(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0")


def no_header(file: Path) -> None:
    file.write_bytes((9).to_bytes(8, "little") + b"[1, 2, 3]")


def a_web_page(file: Path) -> None:
    file.write_bytes(b"<html><body>Access denied</body></html>" * 10)


def a_pointer(file: Path) -> None:
    file.write_text(POINTER)


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (cut_off, "has 79 bytes in the place of 80; download it again"),
        (too_long, "has 81 bytes in the place of 80; download it again"),
        (cut_in_the_header, "is cut off or not a safetensors file (20 bytes); download it again"),
        (a_web_page, "is cut off or not a safetensors file (390 bytes); download it again"),
        (empty, "is empty (0 bytes); download it again"),
        (no_header, "is damaged: its header cannot be read; download it again"),
        (a_pointer, "is a Git LFS pointer, not the file itself; run 'git lfs pull' in the folder"),
    ],
)
def test_spoiled_weights_are_named(
    gemma_folder: Path, spoil: Callable[[Path], None], fault: str
) -> None:
    spoil(gemma_folder / "model.safetensors")
    assert refused(gemma_folder) == f"model {gemma_folder}: model.safetensors {fault}"


def test_a_model_in_several_files_has_all_of_them(gemma_folder: Path) -> None:
    (gemma_folder / "model.safetensors").unlink()
    write_weights(gemma_folder / FIRST, one=b"1")
    missing = f"model {gemma_folder} has no {SECOND}"
    assert refused(gemma_folder) == f"{missing}; download it completely"
    write_weights(gemma_folder / SECOND, two=b"2")
    open_checkpoint(str(gemma_folder))
    places = {"weight_map": {"one": FIRST, "two": SECOND, "three": SECOND}}
    (gemma_folder / INDEX).write_text(json.dumps(places))
    assert f"{SECOND} has no three, which {INDEX} places there" in refused(gemma_folder)
    write_weights(gemma_folder / SECOND, two=b"2", three=b"3")
    open_checkpoint(str(gemma_folder))
    other = {"weight_map": {"one": "other.safetensors"}}
    (gemma_folder / INDEX).write_text(json.dumps(other))
    assert f"has no other.safetensors, which {INDEX} names" in refused(gemma_folder)


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("tokenizer.json", "{", "is not a tokenizer"),
        ("tokenizer.json", "{}", "is not a tokenizer"),
        ("tokenizer.json", "", "is empty"),
        ("tokenizer.json", POINTER, "is a Git LFS pointer"),
        ("tokenizer.model", POINTER, "is a Git LFS pointer"),
        ("tokenizer_config.json", "[]", "is not a JSON object"),
        ("generation_config.json", "{", "cannot be read"),
        ("preprocessor_config.json", POINTER, "is a Git LFS pointer"),
        ("config.json", POINTER, "is a Git LFS pointer"),
        ("chat_template.jinja", POINTER, "is a Git LFS pointer"),
        (INDEX, "{}", "has no weight_map"),
    ],
)
def test_a_spoiled_file_is_named(gemma_folder: Path, name: str, content: str, fault: str) -> None:
    (gemma_folder / name).write_text(content)
    assert refused(gemma_folder).startswith(f"model {gemma_folder}: {name} {fault}")


def test_gemmas_turns_need_their_control_tokens(gemma_folder: Path) -> None:
    open_checkpoint(str(gemma_folder), "gemma")
    tokenizer = gemma_folder / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text().replace("<start_of_turn>", "<a_turn>"))
    open_checkpoint(str(gemma_folder), "raw")
    with pytest.raises(UserError, match="its tokenizer has no <start_of_turn>"):
        open_checkpoint(str(gemma_folder), "gemma")


def test_images_need_the_files_of_the_processor(gemma_folder: Path) -> None:
    (gemma_folder / "preprocessor_config.json").unlink()
    open_checkpoint(str(gemma_folder))
    told = refused(gemma_folder, needs_images=True)
    assert "has no preprocessor_config.json or processor_config.json" in told
    shutil.copy(BUNDLED["demo"] / "processor_config.json", gemma_folder)
    open_checkpoint(str(gemma_folder), needs_images=True)


def test_images_need_a_template_that_places_them(gemma_folder: Path) -> None:
    (gemma_folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    open_checkpoint(str(gemma_folder))
    assert "its chat template has no place for images" in refused(gemma_folder, needs_images=True)
    open_checkpoint(str(gemma_folder), "gemma", needs_images=True)
    open_checkpoint(str(gemma_folder), "raw", needs_images=True)


def test_small_folders_are_told_apart_by_every_byte(gemma_folder: Path) -> None:
    def now() -> str:
        found = open_checkpoint(str(gemma_folder)).identity
        assert found.now == found.before
        return found.now

    found = {now()}
    write_weights(gemma_folder / "model.safetensors", weight=b"Weights")
    found.add(now())
    (gemma_folder / "README.md").touch()
    found.add(now())
    assert len(found) == 3


def test_the_identity_of_a_small_folder_stays_what_earlier_versions_recorded() -> None:
    recorded = json.loads((EARLIER / "finished/_gemma3_batch/run.json").read_text())["model"]
    assert open_checkpoint("demo").identity.now == recorded["identity"]


def test_two_fine_tunes_of_one_size_are_two_models(
    gemma_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "WHOLE_HASH_BYTES", 1000)
    small, large = b"norm", bytes(100_000)
    weights = gemma_folder / "model.safetensors"

    def identified(**tensors: bytes) -> identity.Identity:
        write_weights(weights, **tensors)
        return open_checkpoint(str(gemma_folder)).identity

    base = identified(large=large, small=small)
    assert identified(large=large, small=small) == base
    start, end = bytearray(large), bytearray(large)
    start[0], end[-1] = 1, 1
    middle = bytearray(large)
    middle[50_000] = 1
    tunes = [
        identified(large=bytes(start), small=small),
        identified(large=bytes(middle), small=small),
        identified(large=bytes(end), small=small),
        identified(large=large, small=b"Norm"),
        identified(large=large, Small=small),
    ]
    assert len({one.now for one in (base, *tunes)}) == 6
    assert {one.before for one in tunes} == {base.before}


@pytest.mark.parametrize("name", ["tokenizer.json", "chat_template.jinja", "config.json"])
def test_how_a_large_model_is_run_tells_it_apart(
    gemma_folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(identity, "WHOLE_HASH_BYTES", 1000)
    base = open_checkpoint(str(gemma_folder)).identity.now
    (gemma_folder / "README.md").write_text("what decides nothing")
    assert open_checkpoint(str(gemma_folder)).identity.now == base
    (gemma_folder / name).write_text((gemma_folder / name).read_text() + " ")
    assert open_checkpoint(str(gemma_folder)).identity.now != base


def test_the_revision_is_that_of_the_hubs_cache(gemma_folder: Path, tmp_path: Path) -> None:
    assert open_checkpoint(str(gemma_folder)).identity.revision is None
    commit = "0123456789abcdef" * 2 + "01234567"
    snapshot = shutil.copytree(gemma_folder, tmp_path / "models--g--x/snapshots" / commit)
    assert open_checkpoint(str(snapshot)).identity.revision == commit
