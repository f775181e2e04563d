"""Sidecars: beside each image of INPUT a text file with its answer, as trainers read them.

    photos/cat.jpg     photos/cat.txt

A row with the outcome `ok` has one, no other row does. They are made from parts: after each commit,
and at the end of a run for every part that has none yet, so that they say what OUTPUT says whatever
was killed in between. What was written is kept, under the version of the part that it is of:

    OUTPUT/_gemma3_batch/sidecars/<part>/<stamp>.json       digests by path
    OUTPUT/_gemma3_batch/sidecars/<part>/begun-<id>.json    what is about to be written

So a file that is neither is somebody else's, and is left alone unless the user says otherwise. They
are not synced: after a power loss, remove that folder, and the same command writes them again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipeline.contract.errors import RunError, UserError, one_line
from pipeline.contract.record import Outcome, answer_column
from pipeline.output.formats.values import as_text, to_values
from pipeline.output.parts import list_parts, part_index, read_part
from pipeline.sources import Kind
from pipeline.storage.atomic import overwrite, remove
from pipeline.storage.location import INTERNAL, is_writable
from pipeline.storage.parallel import in_order
from pipeline.storage.walk import files_below

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pyarrow as pa

    from pipeline.output.commit import Committer
    from pipeline.output.journal import Journal
    from pipeline.output.parts import Committed
    from pipeline.output.plan import Plan
    from pipeline.sources import Listing
    from pipeline.sources.units import Work
    from pipeline.storage.location import Location

SUFFIX = ".txt"
FOLDER = "sidecars"
BEGUN = "begun-"
PATH = "path"
"""The column of an image's path in a folder of images."""


@dataclass(frozen=True, kw_only=True)
class Sidecars:
    """The sidecars of a run. It pickles: every process may write them.

    Attributes:
        output: OUTPUT.
        root: The folder that the images' paths start from.
        answer: The column of the answers.
        replaces_others: Whether files that are not this OUTPUT's are replaced.
        outcome: The column of the outcomes.
    """

    output: Location
    root: Location
    answer: str
    replaces_others: bool
    outcome: str = "outcome"

    def write(self, part: str) -> None:
        """Write the sidecars of a part, and remove those of its earlier versions.

        Raises:
            UserError: There is a file of somebody else's in the place of one.
            OSError: The part cannot be read, or INPUT or OUTPUT cannot be written to.
        """
        folder, where = self._folder / part, self.output / part
        stamp = where.info().stamp  # first: if the part is replaced now, it is not of this version
        texts = self._texts(where)
        digests = {path: _digest(text) for path, text in texts.items()}
        ours = self._ours(folder)
        overwrite(folder / f"{BEGUN}{uuid.uuid4().hex}.json", json.dumps(digests).encode())
        for _ in in_order(lambda path: self._put(path, texts[path], ours), texts):
            pass
        for _ in in_order(lambda path: self._take_away(path, ours), ours.keys() - texts.keys()):
            pass
        overwrite(folder / f"{stamp}.json", json.dumps(digests).encode())
        for name in folder.names():
            if name != f"{stamp}.json":
                remove(folder / name)

    def lacking(self, plan: Plan) -> list[str]:
        """Names of the parts whose sidecars are not all written. Raises OSError."""
        written = {note.path for note in self._folder.tree()}
        return sorted(
            part.path
            for part in list_parts(self.output, len(plan))
            if part_index(part.path) < len(plan) and f"{part.path}/{part.stamp}.json" not in written
        )

    def write_lacking(self, plan: Plan) -> None:
        """Write what is not written yet.

        Raises:
            RunError: That is not possible; the same command tries again.
            OSError: OUTPUT cannot be read.
        """
        for part in self.lacking(plan):
            try:
                self.write(part)
            except Exception as error:  # each store's client raises its own kinds
                fault = str(error) if isinstance(error, UserError) else one_line(error)
                raise RunError(
                    f"the rows are finished, but not their sidecars in {self.root}: {fault}\n"
                    "Mend that and give the same command again."
                ) from error

    def check(self, listing: Listing, *, is_begun: bool) -> None:
        """Check that each image can have a sidecar of its own.

        Args:
            listing: The images.
            is_begun: Whether this OUTPUT has written sidecars already: then those that are there
                are looked at when they are replaced.

        Raises:
            UserError: Two images would share one, or files that somebody else wrote are there.
            OSError: INPUT cannot be listed.
        """
        stems = _hashes(_stem(file.path) for file in listing.files)
        stems.sort()
        twice = stems[1:][stems[1:] == stems[:-1]]
        if len(twice):
            pair = [file.path for file in listing.files if hash(_stem(file.path)) == twice[0]][:2]
            raise UserError(
                f"sidecars: {' and '.join(pair)} would share {_stem(pair[0])}{SUFFIX}; rename one "
                "of them"
            )
        if is_begun or self.replaces_others:
            return
        there = [f.path for f in files_below(self.root) if f.path.endswith(SUFFIX)]
        found = np.isin(_hashes(map(_stem, there)), stems)
        if found.any():
            first = there[int(found.argmax())]
            raise UserError(
                f"sidecars: {int(found.sum()):,} .txt files lie beside images already ({first}); "
                "move them away, or give --overwrite-sidecars to replace them"
            )

    @property
    def is_begun(self) -> bool:
        """Whether this OUTPUT has written sidecars. Raises OSError."""
        return self._folder.is_folder()

    @property
    def _folder(self) -> Location:
        return self.output / INTERNAL / FOLDER

    def _texts(self, part: Location) -> dict[str, str]:
        """The answers of a part, by their images' paths."""
        names = (PATH, self.answer, self.outcome)
        rows = to_values(read_part(part, lambda field: field.name in names))
        return {
            row[PATH]: as_text(row[self.answer])
            for row in rows
            if row[self.outcome] == Outcome.OK and row[self.answer] is not None
        }

    def _ours(self, folder: Location) -> dict[str, set[str]]:
        """Digests of what this OUTPUT has written, or was about to, by path."""
        ours: dict[str, set[str]] = {}
        seen: set[str] = set()
        while new := {*folder.names()} - seen:
            for name in sorted(new):
                # Gone: another driver has written all, and a newer note says what.
                with contextlib.suppress(FileNotFoundError):
                    written: Mapping[str, str] = json.loads((folder / name).read())
                    for path, digest in written.items():
                        ours.setdefault(path, set()).add(digest)
            seen |= new
        return ours

    def _put(self, path: str, text: str, ours: Mapping[str, set[str]]) -> None:
        where = self.root / f"{_stem(path)}{SUFFIX}"
        there = _read(where)
        if there == text.encode():
            return
        is_ours = there is None or _digest(there) in ours.get(path, ())
        if not is_ours and not self.replaces_others:
            raise UserError(
                f"{where} was not written by this run; take it away, or give --overwrite-sidecars"
            )
        overwrite(where, text.encode(), sync=False)

    def _take_away(self, path: str, ours: Mapping[str, set[str]]) -> None:
        """Remove the sidecar of an image that has no answer any more, if it is ours."""
        where = self.root / f"{_stem(path)}{SUFFIX}"
        there = _read(where)
        if there is not None and _digest(there) in ours[path]:
            remove(where)


@dataclass(frozen=True, kw_only=True)
class WithSidecars:
    """A `Committer` that writes a part's sidecars as soon as the part is there.

    Attributes:
        committer: It commits.
        sidecars: They are written.
    """

    committer: Committer
    sidecars: Sidecars

    @property
    def journal(self) -> Journal:
        """See `Committer.journal`."""
        return self.committer.journal

    def commit(self, work: Work) -> Committed:
        """See `Committer.commit`. A sidecar that cannot be written is left to the run's end."""
        done = self.committer.commit(work)
        with contextlib.suppress(Exception):  # the part is there: its rows are done
            self.sidecars.write(work.unit.part)
        return done

    def is_committed(self, work: Work) -> bool:
        """See `Committer.is_committed`."""
        return self.committer.is_committed(work)


def sidecars_of(
    output: Location,
    listing: Listing,
    results: pa.Schema,
    *,
    replaces_others: bool,
    prefix: str = "",
) -> Sidecars:
    """The sidecars of a run.

    Args:
        output: OUTPUT.
        listing: The images.
        results: The task's result columns.
        replaces_others: Whether files that are not this OUTPUT's are replaced.
        prefix: What the names of all added columns begin with.

    Raises:
        UserError: The input has no place for them, or the task no answers.
    """
    if listing.kind is not Kind.IMAGES:
        raise UserError(
            "sidecars: INPUT should be a folder of images, beside which they lie; of other inputs "
            "--output-format webdataset puts images and answers side by side"
        )
    root, answer = listing.root, answer_column(results)
    if not is_writable(root) or (root.is_local and not os.access(root.path, os.W_OK)):
        raise UserError(
            f"sidecars: INPUT {root} cannot be written to; copy the images to a place that can, or "
            "use --output-format webdataset"
        )
    if answer is None:
        raise UserError("sidecars: this job answers with numbers only; leave them out")
    return Sidecars(
        output=output,
        root=root,
        answer=f"{prefix}{answer}",
        replaces_others=replaces_others,
        outcome=f"{prefix}outcome",
    )


def _stem(path: str) -> str:
    return os.path.splitext(path)[0]


def _hashes(texts: Iterable[str]) -> np.ndarray:
    """[texts] int64: eight bytes for each, however many there are; equal within this process."""
    return np.fromiter(map(hash, texts), dtype=np.int64)


def _digest(text: str | bytes) -> str:
    body = text.encode() if isinstance(text, str) else text
    return hashlib.blake2b(body, digest_size=10).hexdigest()


def _read(where: Location) -> bytes | None:
    try:
        return where.read()
    except FileNotFoundError:
        return None
