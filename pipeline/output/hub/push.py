"""Decides what of an OUTPUT is missing in a repository of the Hub, and uploads that.

    data/part-...       the parts that are committed, by their names in OUTPUT (`card.path_of`)
    gemma3_batch.json   which run they are of, in the first commit
    README.md           the dataset card, in the last commit, unless the repository has its own

A part that is there with the same content is not uploaded again, one that is not in OUTPUT any more
is removed, and a commit is made only on what was looked at. So the same command may be given again,
after whatever stopped it, or after the run went on: what is there in the end is what OUTPUT holds.
A repository with parts of another run is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.contract.errors import UserError
from pipeline.output.counts import count_committed
from pipeline.output.hub.card import DATA, MARK, RECORD, Contents, card, path_of, run_of
from pipeline.output.hub.target import MAIN, hub, naming, target_of
from pipeline.output.parts import PREFIX
from pipeline.output.plan import open_plan
from pipeline.output.run_record import read_record, why_no_record
from pipeline.storage.access import check_access
from pipeline.storage.backoff import with_backoff
from pipeline.storage.location import locate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, RepoFile

    from pipeline.output.hub.target import Target
    from pipeline.output.plan import Plan
    from pipeline.storage.location import Location, StorageOptions

COMMIT_PARTS = 100
COMMIT_BYTES = 20 * 2**30
"""Most parts of a commit, and about the most bytes; the Hub advises about a hundred files."""
CARD = "README.md"
READ_BYTES = 2**20


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """What a push did.

    Attributes:
        url: The dataset's page.
        parts: Parts that are there now.
        uploaded: Those of them that were uploaded.
        removed: Parts that were there and are not in OUTPUT any more.
        commits: Commits that were made; none where nothing was missing.
        keeps_card: Whether the repository has a card of its own, which was left as it is.
    """

    url: str
    parts: int
    uploaded: int
    removed: int
    commits: int
    keeps_card: bool


@dataclass(frozen=True, kw_only=True)
class _Changes:
    """What is to be done.

    Attributes:
        missing: Names of the parts to upload.
        gone: Paths of the parts to remove.
        texts: Texts to write, by path.
        keeps_card: See `Pushed`.
    """

    missing: list[str]
    gone: list[str]
    texts: dict[str, str]
    keeps_card: bool


@dataclass(frozen=True, kw_only=True)
class _Repository:
    """A branch on the Hub as it was found, and what asks for it.

    Attributes:
        api: It asks.
        target: Which repository and branch.
        head: The commit that was looked at.
        files: Its files by path.
    """

    api: HfApi
    target: Target
    head: str
    files: dict[str, RepoFile]

    @property
    def parts(self) -> dict[str, RepoFile]:
        """The parts there, by name."""
        names = ((os.path.basename(path), file) for path, file in self.files.items())
        return {
            name: file
            for name, file in names
            if name.startswith(PREFIX) and file.path.startswith(f"{DATA}/")
        }

    def read(self, path: str) -> str | None:
        """A small text file; None if there is none."""
        if path not in self.files:
            return None
        with tempfile.TemporaryDirectory(prefix="gemma3-batch-push-") as folder:
            file = self.api.hf_hub_download(
                self.target.repo,
                path,
                repo_type="dataset",
                revision=self.head,
                local_dir=folder,
            )
            return Path(file).read_text(encoding="utf-8")


def push(
    output: str,
    target: str,
    *,
    private: bool = False,
    partial: bool = False,
    storage_options: StorageOptions | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Pushed:
    """Upload the parts of an OUTPUT to a dataset repository, with a card.

    Args:
        output: The folder of a run.
        target: `hf://datasets/owner/name`, or with `@branch`; it is made if there is none.
        private: Make it private; one that is public already is refused.
        partial: Upload the parts of a run that is not finished too.
        storage_options: Arguments of fsspec's filesystems, by protocol; those of `hf` are
            `endpoint` and `token`, in place of HF_ENDPOINT and HF_TOKEN.
        say: Told what is being done.

    Returns:
        What was done.

    Raises:
        UserError: OUTPUT is not a run's or not finished, or the Hub refuses.
        RunError: The Hub does not answer; the same call uploads the rest.
        OSError: OUTPUT cannot be read.
    """
    wanted, options = target_of(target), storage_options or {}
    where = locate(output, options)
    check_access(where, "OUTPUT")
    names, contents = _contents(where, partial=partial)
    api = hub(options)
    with naming(wanted):
        found = _opened(api, wanted, private=private)
        _check_run(found, contents)
        changes = _changes(found, where, names, contents)
        say(f"{len(names):,} parts, {len(changes.missing):,} of them to upload")
        commits = sum(1 for _ in _committed(found, where, changes, say))
    return Pushed(
        url=f"{api.endpoint}/datasets/{wanted.repo}",
        parts=len(names),
        uploaded=len(changes.missing),
        removed=len(changes.gone),
        commits=commits,
        keeps_card=changes.keeps_card,
    )


def _contents(where: Location, *, partial: bool) -> tuple[list[str], Contents]:
    """The names of the parts that are committed, and what is in them. Raises UserError, OSError."""
    record, plan = read_record(where), open_plan(where)
    if record is None or plan is None:
        raise UserError(f"{where} is not the OUTPUT of a run: {why_no_record(where)}")
    is_there, counted = count_committed(plan)
    if len(plan.pending(is_there)) and not partial:
        raise UserError(
            f"{where} is not finished: {counted.rows:,} of {plan.total_rows:,} rows are in parts; "
            "let the run finish, or give --partial"
        )
    names = _names(plan, is_there)
    if not names:
        raise UserError(f"{where} has no results yet; let the run finish")
    return names, Contents(record=record, totals=counted, rows=plan.total_rows, parts=names)


def _names(plan: Plan, is_there: np.ndarray) -> list[str]:
    return sorted(plan.unit(int(index)).part for index in np.flatnonzero(is_there))


def _opened(api: HfApi, target: Target, *, private: bool) -> _Repository:
    """The repository and the branch, which are made if they are not there. Raises UserError."""
    from huggingface_hub import RepoFile

    of: dict[str, Any] = {"repo_type": "dataset"}
    if not _exists(api, target):
        api.create_repo(target.repo, private=private or None, exist_ok=True, **of)
    if target.branch != MAIN:
        api.create_branch(target.repo, branch=target.branch, exist_ok=True, **of)
    about = api.repo_info(target.repo, revision=target.branch, **of)
    if private and not about.private:
        raise UserError(
            f"{target}: it is public already; make it private in its settings, or leave out "
            "--private"
        )
    entries = api.list_repo_tree(target.repo, recursive=True, revision=about.sha, **of)
    files = {entry.path: entry for entry in _if_any(entries) if isinstance(entry, RepoFile)}
    return _Repository(api=api, target=target, head=str(about.sha), files=files)


def _exists(api: HfApi, target: Target) -> bool:
    """Whether there is such a repository that we may see."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        api.repo_info(target.repo, repo_type="dataset")
    except GatedRepoError:
        raise
    except RepositoryNotFoundError:
        return False
    return True


def _if_any(entries: Iterable[Any]) -> Iterator[Any]:
    """The entries of a tree; none of one that is empty, which the Hub has not."""
    from huggingface_hub.errors import EntryNotFoundError

    try:
        yield from entries
    except EntryNotFoundError:
        return


def _check_run(found: _Repository, contents: Contents) -> None:
    """Refuse a repository with parts of another run, which would be lost. Raises UserError."""
    text = found.read(RECORD)
    theirs = json.loads(text)["id"] if text is not None else "of an unknown one"
    if found.parts and theirs != contents.record["id"]:
        raise UserError(
            f"{found.target}: it holds the answers of another run ({theirs}); "
            "name another repository or another branch (@name)"
        )


def _is_there(part: Location, remote: RepoFile | None) -> bool:
    """Whether a part is there with the same content; reads it if the size is the same."""
    if remote is None or remote.size != part.info().size:
        return False
    if remote.lfs is not None:
        hashed, wanted = hashlib.sha256(), remote.lfs.sha256
    else:  # as git names a small file's content
        hashed, wanted = hashlib.sha1(b"blob %d\0" % remote.size), remote.blob_id  # noqa: S324
    with part.open() as file:
        while piece := file.read(READ_BYTES):
            hashed.update(piece)
    return hashed.hexdigest() == wanted


def _batches(where: Location, names: Sequence[str]) -> Iterator[list[str]]:
    """The parts of each commit."""
    batch: list[str] = []
    held = 0
    for name in names:
        batch.append(name)
        held += (where / name).info().size
        if len(batch) == COMMIT_PARTS or held >= COMMIT_BYTES:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


@contextmanager
def _additions(where: Location, names: Sequence[str]) -> Iterator[list[CommitOperationAdd]]:
    """Uploads of parts; from a store they are on this machine's disk within the block."""
    from huggingface_hub import CommitOperationAdd

    with tempfile.TemporaryDirectory(prefix="gemma3-batch-push-") as folder:
        added = []
        for name in names:
            path = (where / name).path
            if not where.is_local:
                path = os.path.join(folder, name)
                _fetch(where / name, path)
            added.append(CommitOperationAdd(path_of(name), path))
        yield added


def _changes(
    found: _Repository, where: Location, names: Sequence[str], contents: Contents
) -> _Changes:
    """What is to be done so that the repository holds what OUTPUT holds."""
    run = json.dumps(run_of(contents.record), indent=2, ensure_ascii=False) + "\n"
    texts = {RECORD: run, CARD: card(contents, found.target.repo.partition("/")[2])}
    there = {name: found.read(name) for name in texts}
    keeps_card = there[CARD] is not None and MARK not in str(there[CARD])
    if keeps_card:
        del texts[CARD]
    kept = {*names}
    return _Changes(
        missing=[name for name in names if not _is_there(where / name, found.parts.get(name))],
        gone=sorted(file.path for name, file in found.parts.items() if name not in kept),
        texts={name: text for name, text in texts.items() if text != there[name]},
        keeps_card=keeps_card,
    )


def _committed(
    found: _Repository, where: Location, changes: _Changes, say: Callable[[str], None]
) -> Iterator[str]:
    """Make the commits, one after the other; yields each one's hash."""
    head = found.head
    batches = [*_batches(where, changes.missing)] or [[]]
    for number, batch in enumerate(batches):
        is_last = number == len(batches) - 1
        own = [RECORD] * (number == 0) + [CARD] * is_last
        texts = [(name, changes.texts[name]) for name in own if name in changes.texts]
        with _additions(where, batch) as added:
            operations = [*added, *_others(texts, changes.gone if is_last else [])]
            if operations:
                head = _commit(found, operations, head)
                say(f"{found.target}: {len(batch):,} parts in commit {head[:7]}")
                yield head


def _fetch(part: Location, path: str) -> None:
    """Copy a part from a store to this machine's disk."""
    with_backoff(lambda: part.fs.get_file(part.path, path))


def _others(
    texts: Iterable[tuple[str, str]], gone: Iterable[str]
) -> Iterator[CommitOperationAdd | CommitOperationDelete]:
    """The changes of a commit that are not parts to upload."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    for name, text in texts:
        yield CommitOperationAdd(name, text.encode())
    for path in gone:
        yield CommitOperationDelete(path)


def _commit(found: _Repository, operations: Sequence[Any], head: str) -> str:
    """Commit on what was looked at. Returns the new head."""
    done = found.api.create_commit(
        found.target.repo,
        operations,
        commit_message="Answers, pushed by gemma3-batch",
        repo_type="dataset",
        revision=found.target.branch,
        parent_commit=head,
    )
    return str(done.oid)
