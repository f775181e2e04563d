"""Decides which files an INPUT has, and of which format they are.

An INPUT is a file, a folder (with everything below it) or a glob (`data/**/*.parquet`, matching
files and folders), on any store. Of a folder only the files of one format are taken, the first of
these that it has:

    parquet      .parquet
    jsonl        .jsonl  .ndjson  .jsonl.gz  .ndjson.gz
    webdataset   .tar
    images       the suffixes of `contract.image_formats`: .jpg, .png, .heic and so on
    videos       .mp4  .m4v  .mov  .3gp  .mkv  .webm
    csv          .csv  .tsv  .csv.gz  .tsv.gz

Suffixes match in any case. Files that are not taken are counted, and a few of them named, by
reason (`skipped`): those of another format, and empty ones. An empty image or video is
taken, as a row with an error. Names that begin with `_` or `.` are hidden, and passed over without
being counted.

A single file of another name is taken for what it is by its first bytes. Of a dataset on the
Hugging Face Hub (`hf://datasets/owner/name`) `hub_dataset` says which files are read; whatever lies
in a repository there is read at one commit.

Listing makes no request for each file: an object store returns a thousand names in one, and a disk
is walked. No names are held in memory: those of many files lie on this machine's disk.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from fsspec.utils import glob_translate

from pipeline.contract.errors import UserError, one_line
from pipeline.contract.image_formats import IMAGE_SUFFIXES, OTHER_IMAGE_SUFFIXES
from pipeline.contract.suggest import FILES, suggestion
from pipeline.contract.video_formats import VIDEO_SUFFIXES
from pipeline.sources.hub_dataset import HubChoice, check_choice, dataset_files
from pipeline.sources.skipped import Reason, Skipped, SkippedFiles
from pipeline.storage.backoff import with_backoff
from pipeline.storage.contents import contents_of
from pipeline.storage.file_table import FileTableWriter, tabulate
from pipeline.storage.hub import at_commit, dataset_of, hub_fault
from pipeline.storage.location import FileInfo, Location, locate, protocol_of
from pipeline.storage.refusals import refusal_of
from pipeline.storage.walk import files_below

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pipeline.storage.location import StorageOptions


class Kind(StrEnum):
    """The format of an input's files."""

    PARQUET = "parquet"
    JSONL = "jsonl"
    WEBDATASET = "webdataset"
    IMAGES = "images"
    VIDEOS = "videos"
    CSV = "csv"


SUFFIXES = {
    Kind.PARQUET: (".parquet",),
    Kind.JSONL: (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz"),
    Kind.WEBDATASET: (".tar",),
    Kind.IMAGES: IMAGE_SUFFIXES,
    Kind.VIDEOS: VIDEO_SUFFIXES,
    Kind.CSV: (".csv", ".tsv", ".csv.gz", ".tsv.gz"),
}
"""In the order of preference."""
USABLE = "parquet, .jsonl, .tar or .csv files, images or videos"
ROW_A_FILE = frozenset({Kind.IMAGES, Kind.VIDEOS})
"""Formats of which each file is a row, also an empty one."""
EVERYTHING = HubChoice()
ICEBERG = re.compile(r"(?:.*/)?metadata/[^/]+\.metadata\.json")
"""A file that only Iceberg tables have."""
LANCE = ".lance"
_MAGIC = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Listing:
    """The files of an input.

    Attributes:
        root: The folder their paths start from.
        kind: The format of all of them.
        files: Sorted by path.
        skipped: The others, by reason.
        commit: The commit that they are of, in a repository on the Hugging Face Hub.
    """

    root: Location
    kind: Kind
    files: Sequence[FileInfo]
    skipped: tuple[Skipped, ...] = ()
    commit: str | None = None


def list_input(
    uri: str, options: StorageOptions | None = None, choice: HubChoice = EVERYTHING
) -> Listing:
    """Find the files of an INPUT.

    Args:
        uri: A file, a folder or a glob; a path or a URI.
        options: Arguments of the filesystems, by protocol.
        choice: What of a dataset on the Hub is read.

    Raises:
        UserError: It is missing, empty, cannot be listed, or has no file of a known format.
    """
    base, pattern = _split_glob(uri, options)
    location = locate(base, options)
    check_choice(location / "" if not pattern else location / pattern, choice)
    try:
        root, commit = at_commit(location, choice.commit)
        return replace(_listed(root, pattern, uri, choice), commit=commit)
    except UserError:
        raise
    except Exception as error:  # the stores' clients have errors of many kinds
        raise UserError(f"INPUT {location} {_why_not_listed(error, location)}") from None


def known_input(
    uri: str, path: str, options: StorageOptions | None = None, choice: HubChoice = EVERYTHING
) -> Listing:
    """An INPUT of which one file is known: where it lies and of which format. Nothing is listed.

    Args:
        uri: As for `list_input`.
        path: Of one of its files, relative to the input's root.
        options: Arguments of the filesystems, by protocol.
        choice: What of a dataset on the Hub is read.

    Returns:
        A listing without files.

    Raises:
        UserError: The format cannot be told.
        OSError: The store cannot be asked.
    """
    base, _ = _split_glob(uri, options)
    root, commit = at_commit(locate(base, options), choice.commit)
    if not root.is_folder():  # INPUT is that file
        root = root.parent
    kind = kind_of(path) or _kind_by_contents(root / path)
    return Listing(root, kind, (), commit=commit)


def _why_not_listed(error: Exception, location: Location) -> str:
    """What an error of listing says of an INPUT."""
    if (fault := hub_fault(error, location)) is not None:
        return fault
    if isinstance(error, FileNotFoundError):
        return f"does not exist{_near(location)}"
    refusal = refusal_of(error, is_local=location.is_local)
    fix = f"; {refusal.fix}" if refusal else ""
    return f"cannot be listed: {one_line(error)}{fix}"


def _near(location: Location) -> str:
    """What beside a path that does not exist may have been meant; on a disk alone."""
    parent, name = os.path.split(location.path.rstrip("/"))
    names = os.listdir(parent) if location.is_local and os.path.isdir(parent) else ()
    guess = suggestion(name, names, FILES).strip()
    return f"; {guess}" if guess else ""


def _listed(location: Location, pattern: str, uri: str, choice: HubChoice) -> Listing:
    """The files of a location, or those of them that match. Raises UserError, OSError."""
    if not pattern and dataset_of(location) is not None:
        return _of_one_kind(location, dataset_files(location, choice))
    found = _found(location)
    if isinstance(found, FileInfo):
        return _of_single(location, found)
    files = _matching(found, pattern, uri) if pattern else found
    return _of_one_kind(location, files)


def _split_glob(uri: str, options: StorageOptions | None) -> tuple[str, str]:
    """The longest folder without wildcards, and the pattern below it (empty if there is none)."""
    found = _MAGIC.search(uri)
    if not found or _is_literal(uri, options):
        return uri, ""
    border = uri.rfind("/", 0, found.start())
    return uri[: max(border, 0)] or ("/" if border == 0 else "."), uri[border + 1 :]


def _is_literal(uri: str, options: StorageOptions | None) -> bool:
    """Whether something has this very name, though it looks like a pattern."""
    protocol = protocol_of(uri)
    if protocol in ("file", "local"):
        return os.path.lexists(uri.removeprefix("file://"))
    if protocol in ("http", "https"):
        return True
    if "*" in uri or "?" in uri:
        return False
    with contextlib.suppress(Exception):  # what is wrong with the store, the listing tells
        return locate(uri, options).exists()
    return False


def _found(location: Location) -> Iterator[FileInfo] | FileInfo:
    """All files below a folder, sorted by path; or the single file that this is."""
    if location.is_local:
        return location.info() if os.path.isfile(location.path) else files_below(location)
    if "https" in location.fs.protocol:
        return location.info()
    files = files_below(location)
    first = next(files, None)
    if first is not None:
        return itertools.chain([first], files)
    return iter(()) if location.is_folder() else location.info()


def _of_single(location: Location, file: FileInfo) -> Listing:
    kind = kind_of(file.path) or _kind_by_contents(location)
    if "https" in location.fs.protocol and kind not in ROW_A_FILE:
        _check_ranges(location)
    return Listing(location.parent, kind, tabulate([file]))


def _check_ranges(link: Location) -> None:
    """Refuse a server that sends whole files only: units begin inside them. Raises UserError."""
    if not with_backoff(lambda: link.fs.has_ranges(link.path)):
        raise UserError(f"INPUT {link}: its server does not send parts of files; download it first")


def _matching(files: Iterable[FileInfo], pattern: str, uri: str) -> Iterator[FileInfo]:
    """Files whose path, or a folder of it, matches."""
    try:
        matches = re.compile(glob_translate(pattern.rstrip("/"))).match
    except (ValueError, re.error) as error:
        raise UserError(f"INPUT {uri} is not a pattern: {error}") from None
    is_any = False
    for file in files:
        if any(matches(path) for path in _path_and_parents(file.path)):
            is_any = True
            yield file
    if not is_any:
        raise UserError(f"INPUT {uri} matches no file; check the pattern")


def _path_and_parents(path: str) -> Iterator[str]:
    while path:
        yield path
        path = path.rpartition("/")[0]


def kind_of(path: str) -> Kind | None:
    """The format that a file's name tells; None if it tells none."""
    name = path.lower()
    return next((kind for kind, suffixes in SUFFIXES.items() if name.endswith(suffixes)), None)


def _kind_by_contents(where: Location) -> Kind:
    """The format of a single file whose name does not tell it. Raises UserError."""
    try:
        contents = contents_of(where)
    except Exception as error:  # the stores' clients have errors of many kinds
        raise UserError(f"INPUT {where} cannot be read: {one_line(error)}") from None
    if contents is None:
        raise UserError(f"INPUT {where} is of no known format; it should be one of {USABLE}")
    kind = kind_of(contents.suffix or "")
    if kind is None or contents.needs_name:
        raise UserError(f"INPUT {where} is {contents.what}; {contents.fix}")
    return kind


def _of_one_kind(root: Location, files: Iterable[FileInfo]) -> Listing:
    skipped = SkippedFiles()
    with contextlib.ExitStack() as writers:
        taken: dict[Kind, FileTableWriter] = {}
        for file in files:
            _check_is_no_table(root, file)
            kind = kind_of(file.path)
            reason = _why_skipped(file, kind)
            if kind is None or reason is not None:
                skipped.add(reason or Reason.UNKNOWN, file.path)
                continue
            if kind not in taken:
                taken[kind] = writers.enter_context(FileTableWriter())
            taken[kind].add(file)
        tables = {kind: taken[kind].table() for kind in SUFFIXES if kind in taken}
    if not tables:
        raise UserError(_nothing_usable(root, skipped.found()))
    chosen, *others = tables
    for kind in others:
        for file in tables[kind]:
            skipped.add(Reason.OTHER_KIND, file.path)
    return Listing(root, chosen, tables[chosen].by_path(), skipped.found())


def _check_is_no_table(root: Location, file: FileInfo) -> None:
    """Refuse an Iceberg table: its files are of all its snapshots. Raises UserError."""
    if file.path.endswith(".metadata.json") and ICEBERG.fullmatch(file.path):
        raise UserError(
            f"INPUT {root} is an Iceberg table ({file.path}), whose files are of older snapshots "
            "too; write its rows as parquet, or hand ray.data.read_iceberg(...) to the job's "
            "function in Python"
        )


def _why_skipped(file: FileInfo, kind: Kind | None) -> Reason | None:
    """Why a file is not read; None if it may be."""
    try:
        file.path.encode()
    except UnicodeEncodeError:
        return Reason.NAME
    if file.size == 0 and kind not in ROW_A_FILE:
        return Reason.EMPTY
    if kind is not None:
        return None
    is_image = file.path.lower().endswith(OTHER_IMAGE_SUFFIXES)
    return Reason.OTHER_IMAGE if is_image else Reason.UNKNOWN


def _nothing_usable(root: Location, skipped: Iterable[Skipped]) -> str:
    found = {group.reason: group for group in skipped}
    if not found:
        return f"INPUT {root} is empty; it should hold {USABLE}"
    if found.keys() == {Reason.EMPTY}:
        return f"INPUT {root} has nothing but empty files; it should hold {USABLE}"
    named = ", ".join(
        f"{group.count:,} {reason} ({group.examples[0]})" for reason, group in found.items()
    )
    return f"INPUT {root} has no {USABLE}, but files that are not read: {named}" + _example(
        root, found.get(Reason.UNKNOWN)
    )


def _example(root: Location, unknown: Skipped | None) -> str:
    """What the first file of no known format is, and what to do about it."""
    if unknown is None:
        return ""
    if unknown.examples[0].endswith(LANCE):
        return (
            f"; {unknown.examples[0]} is of a Lance dataset: write its rows as parquet, or hand "
            "ray.data.read_lance(...) to the job's function in Python"
        )
    try:
        contents = contents_of(root / unknown.examples[0])
    except Exception:  # it is only named as an example
        return ""
    return f"; {unknown.examples[0]} is {contents.what}: {contents.fix}" if contents else ""
