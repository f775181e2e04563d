"""Translates a document's chunks one after the other, each shown how the one before was translated.

So a term, a name or a form of address that was chosen once is chosen again. The chunks of a row's
other texts and languages are asked for at the same time, and other rows are too, so the engine does
not wait; a document takes as long as its chunks take one by one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING

from jobs.translation.documents.document import last_tokens
from jobs.translation.prompts import translated_before
from jobs.translation.task import State, TranslationTask
from pipeline import Generation, Prepared, Request, Result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.contract.task import Row


@dataclass(frozen=True, kw_only=True)
class StateInOrder(State):
    """What a row needs between its requests.

    Attributes:
        waiting: Of each translation in `pending`, the requests that were not made yet.
        order: Of each request that was made, the number of its translation.
    """

    waiting: tuple[tuple[Request, ...], ...]
    order: tuple[int, ...]


class TranslationInOrder(TranslationTask):
    """As `TranslationTask`, with `consistent`."""

    def prepare(self, row: Row) -> Prepared:
        """A request for the first chunk of each text in each target language."""
        prepared = super().prepare(row)
        state = prepared.state
        assert isinstance(state, State)
        every = iter(prepared.requests)
        own = [tuple(islice(every, pending.requests)) for pending in state.pending]
        due = [number for number, requests in enumerate(own) if requests]
        waiting = StateInOrder(
            pending=state.pending,
            columns=state.columns,
            waiting=tuple(requests[1:] for requests in own),
            order=tuple(due),
        )
        return Prepared(tuple(own[number][0] for number in due), waiting)

    def follow_up(self, state: object, generations: Sequence[Generation]) -> Prepared | None:
        """A request for the next chunk of each document that has one; see `FollowsUp`."""
        assert isinstance(state, StateInOrder)
        last = dict(zip(state.order, generations, strict=True))  # the last one of each
        due = [number for number, requests in enumerate(state.waiting) if requests]
        if not due:
            return None
        requests = tuple(self._after(last[number], state.waiting[number][0]) for number in due)
        waiting = tuple(requests[1:] for requests in state.waiting)
        return Prepared(requests, replace(state, waiting=waiting, order=(*state.order, *due)))

    def _after(self, answer: Generation, request: Request) -> Request:
        """The request with the end of the translation before it, if there is one."""
        shown = last_tokens(answer.text, self.shown_tokens, self.count)
        return replace(request, prompt=translated_before(shown) + request.prompt)

    def result(self, state: object, generations: Sequence[Generation]) -> Result:
        """The translations; see `TranslationTask.result`."""
        assert isinstance(state, StateInOrder)
        by_translation = sorted(zip(state.order, generations, strict=True), key=itemgetter(0))
        return super().result(state, [generation for _, generation in by_translation])
