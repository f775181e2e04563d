"""A document cut into chunks for translation, and put together again.

Decides what travels together: a document of nothing but paragraphs goes in chunks as large as the
budget allows, a whole one that fits in one; a document with markup goes block by block, each list
item and table cell by itself, because the same number of items and cells afterwards is worth more
than fewer requests. Which text that is, is `markup`'s to say; `passages` puts line breaks back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import regex

from jobs.translation.documents import inline
from jobs.translation.documents.chunks import Count, parts
from jobs.translation.documents.markup import find_passages
from jobs.translation.documents.passages import BREAK, Kind, Passage, put_back

MIN_BUDGET = 16
"""Tokens; less holds no sentence, and not each character."""

NEWLINE = re.compile(r"\r\n|\r|\n")
UNSPACED = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\u3000-\u303f\uff00-\uffef]")
NO_SPACE_AT_CUT = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\u3000-\u303f\uff00-\uffef]"
)
CONTEXT_STARTS = (regex.compile(r"(?<=[.!?…؟։])\s+|(?<=[।。！？])\s*"), regex.compile(r"\s+"))
"""After a sentence, or at least after a word."""
CHARACTERS_PER_TOKEN = 4
"""A first guess for contexts, which are then measured."""
CONTEXT_CHUNKS = 12
"""No more than so many are looked back: cells of a table, say."""


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """One request's text.

    Attributes:
        text: What is to be translated; never empty, no white space at its ends.
        context: What stands before it in the source, for understanding; it may be empty.
    """

    text: str
    context: str = ""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a chunk stands in the document.

    Attributes:
        start: Where it begins.
        end: Where it ends.
        kind: Its passage's.
        breaks: The document's line breaks within.
        goes_on: Whether the passage was cut before it.
    """

    start: int
    end: int
    kind: Kind
    breaks: tuple[str, ...]
    goes_on: bool


@dataclass(frozen=True, kw_only=True)
class Document:
    """A text, its chunks, and where these stand in it.

    Attributes:
        text: The whole text, as it was given.
        chunks: What is to be translated, in order; none where there is nothing.
        places: Of the chunks.
    """

    text: str
    chunks: tuple[Chunk, ...]
    places: tuple[Place, ...]

    def join(self, translations: Sequence[str]) -> str:
        """The document with a translation in place of each chunk, all else as it was.

        Given the chunks' own texts, this is the document itself, byte for byte.
        """
        assert len(translations) == len(self.chunks), "a translation for each chunk"
        newline = _newline(self.text)
        joined: list[str] = []
        end = 0
        for place, translation in zip(self.places, translations, strict=True):
            fitted = put_back(translation, place.kind, place.breaks, newline)
            between = self.text[end : place.start]
            if place.goes_on:
                source = self.text[end - 1], self.text[place.start]
                between = _seam(between, source, (joined[-1][-1:], fitted[:1]))
            joined += [between, fitted]
            end = place.end
        return "".join([*joined, self.text[end:]])


def cut(text: str, *, language: str, budget: int, count: Count, context: int = 64) -> Document:
    """Cut a document into chunks.

    Args:
        text: Plain text, Markdown or HTML.
        language: Code of its language.
        budget: Most tokens of a chunk, at least `MIN_BUDGET`.
        count: Says how many tokens a text has.
        context: Most tokens of a chunk's context; 0 for none.
    """
    assert budget >= MIN_BUDGET, f"a chunk of {budget} tokens holds no sentence"
    texts: list[str] = []
    found: list[Place] = []
    for passage in _travelling(text):
        goes_on = False
        for start, end in parts(passage.text, language, budget, count):
            if inline.has_words(passage.text[start:end]):
                texts.append(passage.text[start:end])
                found.append(_place(passage, start, end, goes_on=goes_on))
                goes_on = True
    contexts = [_context(texts, number, context, count) for number in range(len(texts))]
    chunks = (Chunk(text=one, context=before) for one, before in zip(texts, contexts, strict=True))
    return Document(text=text, chunks=tuple(chunks), places=tuple(found))


def _place(passage: Passage, start: int, end: int, *, goes_on: bool) -> Place:
    return Place(
        start=passage.in_document(start),
        end=passage.in_document(end),
        kind=passage.kind,
        breaks=passage.breaks_between(start, end),
        goes_on=goes_on,
    )


def _travelling(text: str) -> Iterator[Passage]:
    """The document's passages; neighbouring paragraphs as one where there are only paragraphs."""
    passages = find_passages(text)
    if any(passage.kind is not Kind.PARAGRAPH for passage in passages):
        yield from passages
        return
    run: list[Passage] = []
    for passage in passages:
        if run and not BREAK.fullmatch(text, run[-1].end, passage.start):
            yield _together(text, run)
            run = []
        run.append(passage)
    if run:
        yield _together(text, run)


def _together(text: str, passages: list[Passage]) -> Passage:
    return Passage(text, Kind.PARAGRAPH, tuple(span for one in passages for span in one.spans))


def _context(texts: list[str], number: int, limit: int, count: Count) -> str:
    """The end of what stands before a chunk: whole sentences or at least words, if there are."""
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


def _newline(text: str) -> str:
    """The document's line break: the first one."""
    found = NEWLINE.search(text)
    return found.group() if found else "\n"


def _seam(between: str, source: tuple[str, str], target: tuple[str, str]) -> str:
    """What stands where a passage was cut.

    A source without spaces needs one in a language with them; where only the source has them, a
    single one goes.
    """
    source_has_none = any(NO_SPACE_AT_CUT.match(one) for one in source)
    if not between and source_has_none and not any(map(NO_SPACE_AT_CUT.match, target)):
        return " "
    if between == " " and not any(map(UNSPACED.match, source)) and all(map(UNSPACED.match, target)):
        return ""
    return between
