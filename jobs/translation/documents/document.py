"""A document cut into chunks for translation, and put together again.

A document of nothing but paragraphs is cut into chunks as large as the budget allows, one if it all
fits. A document with markup is cut block by block, each list item and table cell by itself: that
costs requests, but the number of items and cells stays the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import regex

from jobs.translation.documents import inline
from jobs.translation.documents.chunks import Count, split
from jobs.translation.documents.markup import find_passages
from jobs.translation.documents.passages import BREAK, Kind, Passage, put_back

MIN_BUDGET = 16
"""Tokens of the smallest chunk; fewer hold no sentence, and not even every character."""

NEWLINE = re.compile(r"\r\n|\r|\n")
UNSPACED = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\u3000-\u303f\uff00-\uffef]")
NO_SPACE_AT_CUT = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\u3000-\u303f\uff00-\uffef]"
)
CONTEXT_STARTS = (regex.compile(r"(?<=[.!?…؟։])\s+|(?<=[।。！？])\s*"), regex.compile(r"\s+"))
"""A context begins after a sentence, or at least after a word."""
CHARACTERS_PER_TOKEN = 4
"""A first guess at a context's length; its tokens are then counted."""
CONTEXT_CHUNKS = 12
"""Most chunks that a context is made of: short ones, such as a table's cells."""


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """The text of one request.

    Attributes:
        text: Text to translate; never empty, no white space at its ends.
        context: Source text before it, for the model's understanding; it may be empty.
    """

    text: str
    context: str = ""


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where a chunk stands in the document.

    Attributes:
        start: Offset of its first character.
        end: Offset after its last character.
        kind: The kind of its passage.
        breaks: The document's line breaks within.
        continues: Whether the passage was cut before it.
    """

    start: int
    end: int
    kind: Kind
    breaks: tuple[str, ...]
    continues: bool


@dataclass(frozen=True, kw_only=True)
class Document:
    """A text, its chunks, and where these stand in it.

    Attributes:
        text: The whole text.
        chunks: The parts to translate, in order; empty where there is nothing to translate.
        positions: The position of each chunk.
    """

    text: str
    chunks: tuple[Chunk, ...]
    positions: tuple[Position, ...]

    def join(self, translations: Sequence[str]) -> str:
        """The document with a translation in place of each chunk, all else unchanged.

        With the chunks' own texts, this is the document itself, byte for byte.

        Args:
            translations: The translation of each chunk, in order.
        """
        assert len(translations) == len(self.chunks), "a translation for each chunk"
        first_break = NEWLINE.search(self.text)
        newline = first_break.group() if first_break else "\n"
        joined: list[str] = []
        end = 0
        for position, translation in zip(self.positions, translations, strict=True):
            target = put_back(translation, position.kind, position.breaks, newline)
            between = self.text[end : position.start]
            if position.continues:
                source = self.text[end - 1], self.text[position.start]
                between = _space_at_cut(between, source, (joined[-1][-1:], target[:1]))
            joined += [between, target]
            end = position.end
        return "".join([*joined, self.text[end:]])


def cut(
    text: str,
    *,
    language: str,
    budget: int,
    count: Count,
    context: int = 64,
    by_line: bool = False,
) -> Document:
    """Cut a document into chunks.

    Args:
        text: Plain text, Markdown or HTML.
        language: Code of its language.
        budget: Most tokens in a chunk, at least `MIN_BUDGET`.
        count: Counts the tokens of a text.
        context: Most tokens in a chunk's context; 0 for none.
        by_line: Whether no chunk may have a line break.
    """
    assert budget >= MIN_BUDGET, f"a chunk of {budget} tokens holds no sentence"
    texts: list[str] = []
    positions: list[Position] = []
    for passage in _lines(text) if by_line else _joined_passages(text):
        continues = False
        for start, end in split(passage.text, language, budget, count):
            if inline.has_words(passage.text[start:end]):
                texts.append(passage.text[start:end])
                positions.append(_position(passage, start, end, continues=continues))
                continues = True
    chunks = (
        Chunk(text=chunk, context=_context(texts, number, context, count))
        for number, chunk in enumerate(texts)
    )
    return Document(text=text, chunks=tuple(chunks), positions=tuple(positions))


def _position(passage: Passage, start: int, end: int, *, continues: bool) -> Position:
    return Position(
        start=passage.in_document(start),
        end=passage.in_document(end),
        kind=passage.kind,
        breaks=passage.breaks_between(start, end),
        continues=continues,
    )


def _joined_passages(text: str) -> Iterator[Passage]:
    """The document's passages; if all are paragraphs, neighbouring ones are joined."""
    passages = find_passages(text)
    if any(passage.kind is not Kind.PARAGRAPH for passage in passages):
        yield from passages
        return
    run: list[Passage] = []
    for passage in passages:
        if run and not BREAK.fullmatch(text, run[-1].end, passage.start):
            yield _join(text, run)
            run = []
        run.append(passage)
    if run:
        yield _join(text, run)


def _lines(text: str) -> Iterator[Passage]:
    """The document's passages, each line of them by itself."""
    for passage in find_passages(text):
        yield from (Passage(text, passage.kind, (span,)) for span in passage.spans)


def _join(text: str, passages: list[Passage]) -> Passage:
    spans = tuple(span for passage in passages for span in passage.spans)
    return Passage(text, Kind.PARAGRAPH, spans)


def _context(texts: list[str], number: int, limit: int, count: Count) -> str:
    """The last tokens before a chunk, at most `limit`, from the start of a sentence or a word."""
    before = ""
    first = max(0, number - CONTEXT_CHUNKS)
    while number > first and len(before) < limit * CHARACTERS_PER_TOKEN:
        number -= 1
        before = f"{texts[number]}\n{before}" if before else texts[number]
    before = before[-limit * CHARACTERS_PER_TOKEN * 2 :] if limit else ""
    while before and (tokens := count(before)) > limit:
        cut_at = len(before) - int(len(before) * limit / tokens * 0.9)
        middle = (cut_at + len(before)) // 2
        starts = (pattern.search(before, cut_at, middle) for pattern in CONTEXT_STARTS)
        start = next((found.end() for found in starts if found), cut_at)
        before = before[max(1, start) :]
    return before.strip()


def last_tokens(text: str, limit: int, count: Count) -> str:
    """The end of a text, at most so many tokens, from the start of a sentence or a word."""
    return _context([text], 1, limit, count)


def _space_at_cut(between: str, source: tuple[str, str], target: tuple[str, str]) -> str:
    """What stands between two chunks where a passage was cut.

    From a script without spaces to one with them, a space is added; the other way, a single space
    is removed. `source` and `target` are the characters before and after the cut.
    """
    if (
        not between
        and any(map(NO_SPACE_AT_CUT.match, source))
        and not any(map(NO_SPACE_AT_CUT.match, target))
    ):
        return " "
    if between == " " and not any(map(UNSPACED.match, source)) and all(map(UNSPACED.match, target)):
        return ""
    return between
