"""LoRA adapters: what is refused before anything starts, and which row is answered with which."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError
from safetensors.numpy import save_file

from pipeline.contract.adapted import adapted, original
from pipeline.contract.config import UNNAMED, EngineConfig
from pipeline.contract.errors import RowError, UserError
from pipeline.contract.record import Outcome
from pipeline.contract.task import ColumnKind, Prepared, Request, Result, Sampling
from pipeline.engine.adapters import read_adapters, vllm_arguments
from pipeline.engine.checkpoint import open_checkpoint, resolve_engine
from pipeline.engine.renderer import GemmaRenderer
from pipeline.output.run_record import describe_run, differences

PREFIX = "base_model.model.model.language_model.layers"
TOWER = "base_model.model.model.vision_tower.vision_model.encoder.layers"
Q, TOWER_Q = f"{PREFIX}.0.self_attn.q_proj", f"{TOWER}.0.self_attn.q_proj"


def model_widths() -> tuple[tuple[int, int], tuple[int, int]]:
    """[out, in] of a product of the bundled model's decoder and of its tower."""
    shapes: dict[bool, tuple[int, int]] = {}
    for file in open_checkpoint("demo").weights:
        header = json.loads(file.header[8:])
        for name in file.tensors:
            if name.endswith("layers.0.self_attn.q_proj.weight"):
                shapes["vision" in name] = tuple(header[name]["shape"])
    return shapes[False], shapes[True]


DECODER_SHAPE, TOWER_SHAPE = model_widths()


def adapter(
    folder: Path,
    *,
    rank: int = 4,
    layers: Mapping[str, tuple[int, int]] | None = None,
    scale: float = 0.0,
    **config: object,
) -> Path:
    """An adapter as PEFT writes it; layers by name, with [out, in]."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    tensors = {}
    for name, (wide, narrow) in (layers or {Q: DECODER_SHAPE}).items():
        first = random.normal(size=(rank, narrow)).astype(np.float32) * narrow**-0.5
        second = random.normal(size=(wide, rank)).astype(np.float32) * scale
        tensors |= {f"{name}.lora_A.weight": first, f"{name}.lora_B.weight": second}
    save_file(tensors, folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps({**settings, **config}))
    return folder


def resolved(**settings: object) -> EngineConfig:
    return resolve_engine(EngineConfig(model="demo", **settings), open_checkpoint("demo"))


def refused(**settings: object) -> str:
    with pytest.raises(UserError) as error:
        resolved(**settings)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_adapters_are_named_as_text_as_a_list_and_as_a_mapping() -> None:
    named = {"a": "/x", "b": "/y=z"}
    for given in ("a=/x,b=/y=z", ["a=/x", "b=/y=z"], named, json.dumps(named)):
        assert EngineConfig(model="demo", lora=given).lora == named
    for given in ("/x=y/z", ["/x=y/z"]):
        assert EngineConfig(model="demo", lora=given).lora == {UNNAMED: "/x=y/z"}
    for given in ("a=/x,a=/y", "/x,/y", " "):
        with pytest.raises(ValidationError):
            EngineConfig(model="demo", lora=given)


def test_what_vllm_is_told(tmp_path: Path) -> None:
    assert vllm_arguments(resolved()) == {}
    decoder, tower = (
        adapter(tmp_path / "a", rank=9),
        adapter(tmp_path / "b", layers={TOWER_Q: TOWER_SHAPE}),
    )
    one = vllm_arguments(resolved(lora=str(decoder)))
    assert (one["enable_lora"], one["max_lora_rank"], one["max_loras"]) == (True, 16, 1)
    assert not one["enable_tower_connector_lora"]
    both = vllm_arguments(resolved(lora={"a": str(decoder), "b": str(tower)}, lora_column="how"))
    assert (both["max_loras"], both["enable_tower_connector_lora"]) == (2, True)


def test_an_adapter_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    wide, narrow = DECODER_SHAPE
    cases: dict[str, tuple[Path, str]] = {
        "absent": (tmp_path / "nowhere", "is not a folder here"),
        "width": (
            adapter(tmp_path / "width", layers={Q: (wide, narrow + 8)}),
            f"is {narrow + 8} wide there, {narrow} in",
        ),
        "depth": (
            adapter(tmp_path / "depth", layers={f"{PREFIX}.99.mlp.up_proj": (8, narrow)}),
            "changes layers.99.mlp.up_proj, which model",
        ),
        "rank": (adapter(tmp_path / "rank", rank=600), "has rank 600, more than 512"),
        "dora": (adapter(tmp_path / "dora", use_dora=True), "is a DoRA"),
        "kind": (adapter(tmp_path / "kind", peft_type="IA3"), "is a IA3, not a LoRA"),
        "saved": (adapter(tmp_path / "saved", modules_to_save=["lm_head"]), "modules_to_save"),
    }
    for path, fault in cases.values():
        told = refused(lora=str(path))
        assert told.startswith("lora: ")
        assert fault in told
    torn = adapter(tmp_path / "torn")
    weights = torn / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert "bytes in the place of" in refused(lora=str(torn))
    weights.unlink()
    assert "has no adapter_model.safetensors" in refused(lora=str(torn))
    low = refused(lora=str(adapter(tmp_path / "low", rank=9)), engine_args={"max_lora_rank": 8})
    assert "has rank 9, more than 8" in low


def test_it_must_be_said_which_row_has_which(tmp_path: Path) -> None:
    one = str(adapter(tmp_path / "one"))
    assert "which rows have which of a, b?" in refused(lora={"a": one, "b": one})
    assert "needs a name" in refused(lora=one, lora_column="how")
    assert "there are none; give lora" in refused(lora_column="how")


class Words:
    """A task of one text."""

    name = "words"
    columns = {"text": ColumnKind.TEXT}  # noqa: RUF012
    result_schema = pa.schema([("answer", pa.string())])
    settings: Mapping[str, object] = {}

    def prepare(self, row: Mapping[str, object]) -> Prepared:
        return Prepared((Request(str(row["text"]), Sampling(4)),), "state")

    def result(self, state: object, generations: object) -> Result:
        raise NotImplementedError


def test_a_column_chooses_the_adapter(tmp_path: Path) -> None:
    one = str(adapter(tmp_path / "one"))
    config = resolved(lora={"a": one, "b": one}, lora_column="how", has_images=False)
    task, renderer = adapted(Words(), "how"), GemmaRenderer(config)
    assert adapted(task, "how") is task
    assert isinstance(original(task), Words)
    assert [*task.columns] == ["text", "how"]

    def chosen(value: str | None) -> str | None:
        prepared = task.prepare({"text": "x", "how": value})
        assert prepared.state == "state"
        return renderer.render(prepared.requests[0], []).adapter

    assert [chosen(value) for value in ("a", "b", None, "")] == ["a", "b", None, None]
    with pytest.raises(RowError) as error:
        chosen("c")
    assert error.value.outcome is Outcome.MISSING_INPUT
    assert str(error.value) == "render: there is no adapter 'c'; lora has a, b"
    only = GemmaRenderer(resolved(lora=one, has_images=False))
    assert only.render(Request("x", Sampling(4)), []).adapter == UNNAMED


def test_a_run_is_not_continued_with_another_adapter(tmp_path: Path) -> None:
    from pipeline.contract.config import RunConfig

    def recorded(**settings: object) -> Mapping[str, object]:
        run = RunConfig(input=str(tmp_path), output="out", engine=resolved(**settings))
        return describe_run(run, Words(), open_checkpoint("demo"), "vllm")

    one, other = (adapter(tmp_path / name, rank=rank) for name, rank in (("1", 4), ("2", 8)))
    plain, with_one = recorded(), recorded(lora=str(one))
    assert differences(with_one, recorded(lora=str(one))) == []
    assert differences(with_one, recorded(lora=str(one.rename(tmp_path / "moved")))) == []
    for before, after in ((plain, with_one), (with_one, recorded(lora=str(other)))):
        assert [line.partition(":")[0] for line in differences(before, after)] == ["lora"]
    before = json.loads(json.dumps(plain))  # of a version without adapters
    del before["model"]["adapters"], before["config"]["engine"]["lora_column"]
    assert differences(before, plain) == []


def test_an_adapter_is_read_once_it_is_here(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "a", rank_pattern={"q_proj": 12})
    (read,) = read_adapters(resolved(lora=str(folder)))
    assert (read.name, read.rank, read.changes_tower) == (UNNAMED, 12, False)
