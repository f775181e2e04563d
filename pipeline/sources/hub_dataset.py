"""Decides which files of a dataset on the Hugging Face Hub are read: those of a config's splits.

As the Hub shows them. The `configs` at the head of README.md say which files are whose; without
them, the names do (`data/train-00000-of-00002.parquet`, `test/`, `dev.csv`), and files whose names
say nothing are `train`. Both are decided by `datasets`, whose rules they are. Without a config the
default one is read, without a split all of them.

A folder of images may have a `metadata.csv`, `.jsonl` or `.parquet` with more about each; the
images are read, and not that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.contract.errors import UserError, one_line
from pipeline.contract.image_formats import IMAGE_SUFFIXES
from pipeline.contract.suggest import suggestion
from pipeline.storage.backoff import with_backoff
from pipeline.storage.hub import dataset_of
from pipeline.storage.walk import files_below

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from pipeline.storage.location import FileInfo, Location

README = "README.md"
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")


@dataclass(frozen=True, kw_only=True)
class HubChoice:
    """What of a dataset on the Hub is read.

    Attributes:
        config: Name of a config; None for the default one.
        split: Names of splits, joined by `+`; None for all.
        commit: The commit to read; None for that of the revision that INPUT names.
    """

    config: str | None = None
    split: str | None = None
    commit: str | None = None


def check_choice(where: Location, choice: HubChoice) -> None:
    """Refuse a config or a split of what is no dataset on the Hub. Raises UserError."""
    for option, value in (("config", choice.config), ("split", choice.split)):
        if value is not None and dataset_of(where) is None:
            raise UserError(
                f"{option}: '{value}' is of a dataset on the Hub, and INPUT is {where}; leave it "
                "out, or name hf://datasets/OWNER/NAME"
            )


def dataset_files(root: Location, choice: HubChoice) -> Iterator[FileInfo]:
    """The files of the splits, sorted by path.

    Args:
        root: The dataset's repository, at a commit.
        choice: What of it is read.

    Raises:
        UserError: There is no such config or split, or nothing in it.
        OSError: The Hub cannot be asked.
    """
    paths = {*_paths(root, choice)}
    if any(path.lower().endswith(IMAGE_SUFFIXES) for path in paths):
        paths = {path for path in paths if path.rpartition("/")[2] not in METADATA}
    return (file for file in files_below(root) if file.path in paths)


def _paths(root: Location, choice: HubChoice) -> Iterator[str]:
    from datasets.data_files import resolve_pattern

    base, patterns = _patterns(root, choice.config)
    prefix = f"{root}/"
    for split in _splits(root, choice.split, patterns):
        for pattern in patterns[split]:
            try:
                found = resolve_pattern(pattern, base, download_config=_access(root))
            except FileNotFoundError:  # one of several patterns for a split
                continue
            for path in found:
                if not path.startswith(prefix):
                    raise UserError(f"INPUT {root} names files outside of it ({path}); name those")
                yield path.removeprefix(prefix)


def _patterns(root: Location, config: str | None) -> tuple[str, Mapping[str, Sequence[str]]]:
    """The folder of a config's files, and patterns of them by split. Raises UserError, OSError."""
    from datasets.data_files import get_data_patterns, sanitize_patterns

    configs = _configs(root)
    if not configs and config not in (None, "default"):
        raise UserError(f"config: INPUT {root} has no configs; leave it out")
    about = configs[_chosen(root, config, configs)] if configs else {}
    base = f"{root}/{about['data_dir']}".rstrip("/") if about.get("data_dir") else str(root)
    if about.get("data_files") is not None:
        return base, sanitize_patterns(about["data_files"])
    try:
        return base, get_data_patterns(base, download_config=_access(root))
    except FileNotFoundError:
        raise UserError(f"INPUT {base} has no data files") from None


def _configs(root: Location) -> Mapping[str, Mapping[str, Any]]:
    """The configs that the README names. Raises UserError, OSError."""
    from datasets.utils.metadata import MetadataConfigs
    from huggingface_hub import DatasetCard

    readme = root / README
    try:
        text = bytes(with_backoff(lambda: root.fs.cat_file(readme.path))).decode()
    except FileNotFoundError:
        return {}
    try:
        configs: Mapping[str, Mapping[str, Any]] = MetadataConfigs.from_dataset_card_data(
            DatasetCard(text).data
        )
        return configs
    except Exception as error:  # whatever YAML holds
        raise UserError(f"INPUT {readme} cannot be understood: {one_line(error)}") from None


def _chosen(root: Location, config: str | None, configs: Mapping[str, Any]) -> str:
    """The name of the config that is read. Raises UserError."""
    if config is None:
        defaults = [name for name, about in configs.items() if about.get("default")]
        config = next(iter(configs)) if len(configs) == 1 else next(iter(defaults), "default")
        if config not in configs:
            names = ", ".join(configs)
            raise UserError(f"INPUT {root} has the configs {names}; name one (--config NAME)")
    return _one_of("config", config, root, configs)


def _splits(root: Location, split: str | None, patterns: Collection[str]) -> list[str]:
    """The names of the splits that are read. Raises UserError."""
    names = [*patterns] if split is None else [name.strip() for name in split.split("+")]
    return [_one_of("split", name, root, patterns) for name in names]


def _one_of(option: str, name: str, root: Location, known: Collection[str]) -> str:
    if name not in known:
        raise UserError(
            f"{option}: INPUT {root} has no {option} '{name}'; {suggestion(name, [*known])}"
            f"it has {', '.join(known)}"
        )
    return name


def _access(root: Location) -> Any:
    """How `datasets` reaches the Hub: as the location does."""
    from datasets import DownloadConfig

    options = {"endpoint": root.fs.endpoint, "token": root.fs.token}
    return DownloadConfig(token=root.fs.token, storage_options={"hf": options})
