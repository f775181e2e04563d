"""Decides whether images that a store refuses are their rows' own fault or the whole store's.

    credentials are not accepted      the store's, whatever it answered before
    denied, or no answer              the store's, unless it has answered for another row: then each
                                      refusal is its row's own (S3 denies a key that does not exist)
    no answer any more                the store's, once it has not answered for a few rows

It counts as an answer that a file does not exist. A store is a bucket, a repository or a disk;
which buckets have answered is noted in OUTPUT too, so that the last rows of a run can tell as well
as its first. A run ends for a store after `FEW` rows, or after the first block if no row of that
could be rendered and no store has answered. The rows keep no outcome then: they are computed after
the mending. A run whose `max_error_rate` is 1, and a retry, goes on without the images of a store
that denies them all.

A few rows of many that lead to a store of their own, as in a collection of links, are their own
fault.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from typing import TYPE_CHECKING

from pipeline.contract.errors import Fault
from pipeline.images import THIS_MACHINE
from pipeline.profiling import events
from pipeline.storage.atomic import overwrite
from pipeline.storage.location import INTERNAL
from pipeline.storage.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.images import StoreError
    from pipeline.stages.blocks import Item
    from pipeline.storage.location import Location

FEW = 8
"""Refused rows after which a run ends."""
MOST_NOTED = 16
"""Stores that one process notes in OUTPUT."""


class StoreFaults:
    """What the stores answered to one process.

    Args:
        output: OUTPUT, in which it is noted which stores have answered; None notes nothing.
        accepts_denied: Whether a run may go on without the images of a store that denies all.
    """

    def __init__(self, output: Location | None = None, *, accepts_denied: bool = False) -> None:
        self._accepts_denied = accepts_denied
        self._folder = output and output / INTERNAL / "answered"
        self._answered: set[str] = set()
        self._answers: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._silent: Counter[str] = Counter()
        self._others = 0
        self._noted = 0

    def answered(self, store: str) -> None:
        """Note that a store gave a file, or said that there is none."""
        self._answers[store] += 1

    def judged(self, block: Sequence[tuple[Item, StoreError | None]]) -> list[Item]:
        """A block's items, those with the store's fault whose image a store refused as a whole.

        Args:
            block: Each item as it would be, and the refusal of one of its images.

        Raises:
            OSError: OUTPUT cannot be read.
        """
        refusals = [refusal for _, refusal in block if refusal is not None]
        events.note("image_refused", len(refusals))
        self._others += sum(item.payload is not None and refused is None for item, refused in block)
        self._note_answers()
        self._refused += Counter(refusal.store for refusal in refusals)
        for store in self._answers:
            self._silent.pop(store, None)
        for refusal in refusals:
            if refusal.refusal is Refusal.UNREACHABLE and not self._answers[refusal.store]:
                self._silent[refusal.store] += 1
        faults: dict[str, Fault] = {}
        for refusal in refusals:
            if refusal.store not in faults and self._is_stores(refusal):
                faults[refusal.store] = _fault(refusal, is_users=self._is_users(refusal))
        self._answers.clear()
        return [
            item.faulty(faults[refusal.store])
            if refusal is not None and refusal.store in faults
            else item
            for item, refusal in block
        ]

    def _is_stores(self, error: StoreError) -> bool:
        if error.refusal is Refusal.CREDENTIALS:
            return True
        if not self._has_answered(error.store):
            if self._accepts_denied:
                return False
            return self._refused[error.store] >= FEW or not (self._others or self._answered)
        return error.refusal is Refusal.UNREACHABLE and self._silent[error.store] >= FEW

    def _is_users(self, error: StoreError) -> bool:
        """Whether there is something to mend; a store that has answered may come back."""
        return error.refusal is not Refusal.UNREACHABLE or error.store not in self._answered

    def _note_answers(self) -> None:
        new = self._answers.keys() - self._answered
        self._answered |= new
        if self._folder is None:
            return
        for store in sorted(new - {THIS_MACHINE}):
            self._noted += 1
            if self._noted <= MOST_NOTED:
                # A note is a help, and the journal's errors say what is wrong with OUTPUT.
                with contextlib.suppress(Exception):
                    overwrite(self._folder / _name(store), store.encode(), sync=False)

    def _has_answered(self, store: str) -> bool:
        """Whether it has, to this process or to another one of the run, or of an earlier one."""
        if store not in self._answered and self._folder is not None:
            if not (self._folder / _name(store)).exists():
                return False
            self._answered.add(store)
        return store in self._answered


def _name(store: str) -> str:
    return hashlib.blake2b(store.encode(), digest_size=10).hexdigest()


def _fault(error: StoreError, *, is_users: bool) -> Fault:
    hint = " (S3 denies a key that does not exist where s3:ListBucket is not granted)"
    message = (
        f"no image of {error.store} can be read: {error.message}; {error.refusal.fix}"
        f"{hint if error.refusal is Refusal.DENIED else ''}, and run the same command again"
    )
    return Fault(ends_run=True, message=message, is_users=is_users)
