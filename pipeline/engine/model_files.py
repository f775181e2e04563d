"""Finds a model's folder, and reads the small files in it.

Decides what is said of a file that is not what its name says: no JSON, no tokenizer, or a Git LFS
pointer in place of the file. Read by the driver, so this needs neither torch nor vLLM.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.contract.errors import UserError, one_line
from pipeline.engine.models.fetched import folder_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gemma3_model.tokenizer import TextTokenizer

BUNDLED = {"demo": Path(__file__).parents[2] / "jobs" / "demo" / "checkpoint"}
"""The models that come with this distribution, by name. A path: nothing above is imported."""
POINTER = b"version https://git-lfs.github.com/spec/"
"""How a file of Git LFS begins that was not downloaded; it is about 130 bytes long."""
AGAIN = "download it again"
_CONTROL_IDS: dict[tuple[Path, int, int], Mapping[str, int]] = {}
"""Ids by control token, of versions of files: Gemma's own has 33 MB, and a start asks several times
in each process."""
NAMED_TOKENS = {
    "bos_token": "<bos>",
    "eos_token": "<eos>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
}
"""Those of transformers' `GemmaTokenizer`, for a `tokenizer_config.json` that leaves them out."""
PREPROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")


def model_folder(model: str) -> Path:
    """The folder of a model, absolute.

    Args:
        model: A path, a name in `BUNDLED`, or what `fetched` returned.

    Raises:
        UserError: There is no such folder.
    """
    path = BUNDLED.get(model) or folder_of(model) or Path(model).expanduser()
    if not path.is_dir():
        raise UserError(
            f"model {model} is not a folder here; name the folder of a Gemma 3 checkpoint, one on "
            f"the hub (OWNER/NAME), or '{next(iter(BUNDLED))}' for the bundled one"
        )
    return path.absolute()


def short_name(model: str) -> str:
    """What a model is called on a screen: a bundled one's name, or the last part of the path."""
    bundled = (name for name, folder in BUNDLED.items() if str(folder) == model)
    return next(bundled, model.rstrip("/").rsplit("/", 1)[-1])


def read_text(model: str, file: Path) -> str:
    """A file of text.

    Args:
        model: The model, for the message.
        file: A file in its folder.

    Raises:
        UserError: It cannot be read, or is not text.
    """
    try:
        content = file.read_bytes()
        refuse_pointer(model, file.name, content)
        return content.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"model {model}: {file.name} cannot be read ({error}); {AGAIN}") from None


def read_json(model: str, file: Path) -> dict[str, Any]:
    """A file that holds a JSON object.

    Args:
        model: The model, for the message.
        file: A file in its folder.

    Raises:
        UserError: It cannot be read, or holds something else.
    """
    try:
        content = json.loads(read_text(model, file))
    except json.JSONDecodeError as error:
        raise UserError(f"model {model}: {file.name} cannot be read ({error}); {AGAIN}") from None
    if not isinstance(content, dict):
        raise UserError(f"model {model}: {file.name} is not a JSON object; {AGAIN}")
    return content


def refuse_pointer(model: str, name: str, begin: bytes) -> None:
    """Refuse a file that is a Git LFS pointer.

    Args:
        model: The model, for the message.
        name: The file's name.
        begin: Its first bytes.

    Raises:
        UserError: It is one.
    """
    if begin.startswith(POINTER):
        raise UserError(
            f"model {model}: {name} is a Git LFS pointer, not the file itself; run 'git lfs pull' "
            "in the folder"
        )


def check_tokenizer(model: str, path: Path) -> None:
    """Check that a folder has a tokenizer that can be read.

    Raises:
        UserError: It has none, or that of `tokenizer.json` cannot be read.
    """
    names = ("tokenizer.json", "tokenizer.model")
    found = [path / name for name in names if (path / name).exists()]
    if not found:
        raise UserError(
            f"model {model} has no {' or '.join(names)} beside its weights; copy them from the "
            "model it was made from, or download it completely"
        )
    for file in found:
        with file.open("rb") as stream:
            begin = stream.read(len(POINTER))
        refuse_pointer(model, file.name, begin)
        if not begin:
            raise UserError(f"model {model}: {file.name} is empty; {AGAIN}")
    if found[0].suffix == ".json":
        _control_ids(model, found[0])


def token_id(model: str, path: Path, token: str) -> int | None:
    """The id of a control token, by the tokenizer's files; None where they do not tell.

    Raises:
        UserError: One of the files cannot be read.
    """
    file, settings = path / "tokenizer.json", path / "tokenizer_config.json"
    if file.exists():
        return _control_ids(model, file).get(token)
    if settings.exists():
        added = read_json(model, settings).get("added_tokens_decoder", {})
        return next((int(i) for i, known in added.items() if known["content"] == token), None)
    return None


def _version(file: Path) -> tuple[Path, int, int]:
    stat = file.stat()
    return file, stat.st_size, stat.st_mtime_ns


def _control_ids(model: str, file: Path) -> Mapping[str, int]:
    """Those that the file says are control tokens. Raises UserError."""
    version = _version(file)
    if version not in _CONTROL_IDS:
        _CONTROL_IDS[version] = _read_control_ids(model, file)
    return _CONTROL_IDS[version]


def _read_control_ids(model: str, file: Path) -> Mapping[str, int]:
    from tokenizers import Tokenizer

    from gemma3_model.tokenizer import control_ids

    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing more special
        with file.open("rb") as stream:
            refuse_pointer(model, file.name, stream.read(len(POINTER)))
        raise UserError(
            f"model {model}: {file.name} is not a tokenizer ({one_line(error)}); {AGAIN}"
        ) from None
    return control_ids(tokenizer)


def load_tokenizer(model: str) -> TextTokenizer:
    """A model's tokenizer.

    Raises:
        UserError: It cannot be loaded.
    """
    from gemma3_model.tokenizer import TextTokenizer

    folder = model_folder(model)
    try:
        tokenizer = TextTokenizer.from_folder(folder)
    except Exception as error:  # the libraries raise errors of many kinds
        raise UserError(
            f"model {model}: its tokenizer cannot be loaded: {one_line(error)}"
        ) from error
    if (folder / "tokenizer.json").exists():
        _CONTROL_IDS[_version(folder / "tokenizer.json")] = tokenizer.declared
    return tokenizer


def named_tokens(model: str) -> dict[str, str]:
    """Control strings by the names that chat templates have for them, such as `bos_token`.

    Raises:
        UserError: `tokenizer_config.json` cannot be read.
    """
    file = model_folder(model) / "tokenizer_config.json"
    settings = read_json(model, file) if file.exists() else {}
    found = {name: settings[name] for name in settings if name.endswith("_token")}
    strings = {name: t["content"] if isinstance(t, dict) else t for name, t in found.items()}
    return NAMED_TOKENS | {name: text for name, text in strings.items() if isinstance(text, str)}


def preprocessor_config(model: str) -> dict[str, Any]:
    """How a model's images are preprocessed: `preprocessor_config.json`, or what has it inside.

    Raises:
        UserError: The file cannot be read.
    """
    folder = model_folder(model)
    for name in PREPROCESSOR_FILES:
        if (folder / name).exists():
            return read_json(model, folder / name)
    return {}
