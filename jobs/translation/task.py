"""The translation job: what is asked about a row's texts or its image, and what comes of it.

A text is cut into chunks (`documents`), each chunk is a request for each language, and the answers
are put together and checked (`checks`, `detection`). Each language's text has an outcome of its
own; the row's is the worst of them, and the good texts are kept.

    what the text is                              what becomes of it
    null                                          missing_input
    in the language asked for already             passed through, ok
    without a word (empty, numbers, emoji)        passed through, ok
    longer than the model takes                   too_long
    answered by a loop                            repetition
    answered in another language than asked for   wrong_language
    answered longer than `max_tokens`             truncated, with what there is

(The module is not called `translate`; see `captions`.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

import pyarrow as pa

from jobs.options.languages import column_suffix, find_language
from jobs.translation.checks import is_repetitive, lost
from jobs.translation.detection import detect, is_wrong_language, same_language
from jobs.translation.documents import Chunk, Document, cut
from jobs.translation.documents.document import MIN_BUDGET
from jobs.translation.glossary import Glossary
from jobs.translation.prompts import image_prompt, text_prompt
from pipeline import (
    ColumnKind,
    Generation,
    ImageRef,
    Outcome,
    Prepared,
    Request,
    Result,
    RowError,
    Sampling,
    UserError,
)
from pipeline.contract.record import worst

if TYPE_CHECKING:
    from pipeline.contract.task import Row, TextMeter

AUTO = "auto"
SURE = 0.8
"""From this confidence on, a text in the target language is passed through; see `detection`."""
GROWTH = 3
SLACK = 64
"""An answer's default limit in tokens: so many times the chunk's, and so many more."""
TEMPLATE_TOKENS = 32
"""Room for the tokens of the chat template itself."""
TERMS_TOKENS = 256
"""Room for a glossary's terms; `glossary` gives no more than 40 for a text."""
IMAGE_TOKENS = 1024
"""Default limit of the translation of an image's text."""
EXCERPT = 60


@dataclass(frozen=True, kw_only=True)
class Part:
    """One text of a row in one target language, as it was prepared.

    Attributes:
        column: The text's column, or the image's.
        target: Code of the language it goes to.
        source: Code of the language it is in; None where there is no text.
        document: The text; None for an image, or where it is passed through or cannot be had.
        text: The text; None for an image.
        terms: The glossary's terms in it, with their translations.
        requests: How many requests ask for it.
        fault: Why there is nothing to ask.
    """

    column: str
    target: str
    source: str | None = None
    document: Document | None = None
    text: str | None = None
    terms: tuple[tuple[str, str], ...] = ()
    requests: int = 0
    fault: RowError | None = None


@dataclass(frozen=True, kw_only=True)
class State:
    """What `result` needs again: the parts, and the columns that are known already."""

    parts: tuple[Part, ...]
    columns: Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What became of one part."""

    text: str | None = None
    lost: Sequence[str] | None = None
    outcome: Outcome = Outcome.OK
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class TranslationTask:
    """Translations of a row's texts, or of the text in its image.

    Attributes:
        targets: Codes of the languages to translate to.
        text_columns: Where the texts are; none where there is an image column.
        image_column: Where the image is.
        source: Code of the language of all texts, or `auto` to detect it.
        source_column: Column with the code of each row's language.
        asks_languages: Whether the checkpoint's template takes the two codes and says the rest
            itself, as TranslateGemma's does. It has no place for context and terms.
        glossary: Terms to translate as they say.
        chunk_tokens: Longest piece that is translated at once.
        context_tokens: How much of the text before a piece is shown with it.
        max_tokens: Longest answer for a piece; by default three times the piece and 64 more.
        check_language: Whether answers in another language are told from right ones.
    """

    targets: tuple[str, ...]
    text_columns: tuple[str, ...] = ()
    image_column: str | None = None
    source: str = AUTO
    source_column: str | None = None
    asks_languages: bool = False
    glossary: Glossary | None = None
    chunk_tokens: int = 512
    context_tokens: int = 64
    max_tokens: int | None = None
    check_language: bool = True
    _meter: TextMeter | None = field(default=None, compare=False, repr=False)

    name = "translate"

    def __post_init__(self) -> None:
        for name in ("targets", "text_columns"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if isinstance(self.glossary, Mapping):
            object.__setattr__(self, "glossary", Glossary.from_json(self.glossary))
        if bool(self.text_columns) == (self.image_column is not None):
            raise UserError("translation: name text columns or an image column, one of the two")
        if self.image_column is not None and self.source == AUTO and self.source_column is None:
            raise UserError("source: is not detected in images; name the language of their text")
        if len({*self.text_columns}) < len(self.text_columns):
            raise UserError("text_columns: a column is there twice; name each once")
        _check_names([field.name for field in self.result_schema])

    @property
    def columns(self) -> Mapping[str, ColumnKind]:
        """The texts' or the image's, and the language's."""
        read = dict.fromkeys(self.text_columns, ColumnKind.TEXT)
        if self.source_column is not None:
            read[self.source_column] = ColumnKind.TEXT
        if self.image_column is not None:
            read[self.image_column] = ColumnKind.IMAGE
        return read

    @property
    def result_schema(self) -> pa.Schema:
        """For each text and language `c_de`, `c_de_outcome`, `c_de_lost`; for each text its own."""
        return pa.schema([*self._result_fields()])

    def _result_fields(self) -> Iterator[pa.Field]:
        for column in self._columns:
            if self._detects:
                yield pa.field(f"{column}_language", pa.string())
                yield pa.field(f"{column}_language_confidence", pa.float64())
            for target in self.targets:
                name = _name(column, target)
                yield pa.field(name, pa.string())
                yield pa.field(f"{name}_outcome", pa.string())
                if self.image_column is None:
                    yield pa.field(f"{name}_lost", pa.list_(pa.string()))

    @property
    def settings(self) -> Mapping[str, object]:
        """What decides the results: the arguments this task was made with."""
        own = asdict(replace(self, _meter=None))
        return {name: value for name, value in own.items() if name != "_meter"}

    @property
    def _columns(self) -> tuple[str, ...]:
        return self.text_columns if self.image_column is None else (self.image_column,)

    @property
    def _detects(self) -> bool:
        return self.source == AUTO and self.source_column is None

    def measured(self, meter: TextMeter) -> TranslationTask:
        """The same task, which can cut texts by tokens."""
        return replace(self, _meter=meter)

    def prepare(self, row: Row) -> Prepared:
        """A request for each chunk of each text in each language."""
        parts: list[Part] = []
        requests: list[Request] = []
        known: dict[str, object] = {}
        for column in self._columns:
            for part, asked in self._prepared(column, row, known):
                parts.append(part)
                requests += asked
        return Prepared(tuple(requests), State(parts=tuple(parts), columns=known))

    def _prepared(
        self, column: str, row: Row, known: dict[str, object]
    ) -> Iterator[tuple[Part, Sequence[Request]]]:
        """The parts of one column; what is found out about its text goes to `known`."""
        try:
            if self.image_column is not None:
                yield from self._of_image(row[column], self._source_of(row, "", column, known))
                return
            text = row[column]
            if text is None:
                raise RowError(Outcome.MISSING_INPUT, "render", "the text is null")
            source = self._source_of(row, text, column, known)
        except RowError as error:
            yield from ((Part(column=column, target=t, fault=error), ()) for t in self.targets)
            return
        documents: dict[int, Document] = {}
        for target in self.targets:
            yield self._of_text(column, text, source, target, documents)

    def _source_of(self, row: Row, text: str, column: str, known: dict[str, object]) -> str | None:
        """Code of the language of a row's text; None where it has no words to tell."""
        if self.source_column is not None:
            if row[self.source_column] is None:
                message = f"'{self.source_column}', the text's language, is null"
                raise RowError(Outcome.MISSING_INPUT, "render", message)
            try:
                return find_language(str(row[self.source_column])[:EXCERPT]).code
            except UserError as error:
                message = f"'{self.source_column}': {error}"
                raise RowError(Outcome.MISSING_INPUT, "render", message) from None
        if not self._detects:
            return self.source
        found = detect(text)
        known[f"{column}_language"] = found.language
        known[f"{column}_language_confidence"] = found.confidence if found.language else None
        return found.language

    def _of_image(
        self, image: object, source: str | None
    ) -> Iterator[tuple[Part, Sequence[Request]]]:
        assert self.image_column is not None
        assert source is not None
        for target in self.targets:
            codes = (source, target)
            request = Request(
                "" if self.asks_languages else image_prompt(*map(find_language, codes)),
                Sampling(self.max_tokens or IMAGE_TOKENS),
                images=(ImageRef(image),),
                languages=codes if self.asks_languages else None,
                may_fail=True,
            )
            part = Part(column=self.image_column, target=target, source=source, requests=1)
            yield part, (request,)

    def _of_text(
        self,
        column: str,
        text: str,
        source: str | None,
        target: str,
        documents: dict[int, Document],
    ) -> tuple[Part, Sequence[Request]]:
        if source is None or self._is_there_already(text, source, target):
            return Part(column=column, target=target, source=source, text=text), ()
        budget = self._budget(source, target)
        if budget not in documents:
            documents[budget] = self._cut(text, source, budget)
        document = documents[budget]
        requests = [self._request(chunk, source, target) for chunk in document.chunks]
        part = Part(
            column=column,
            target=target,
            source=source,
            document=document,
            text=text,
            terms=self._terms(text, source, target),
            requests=len(requests),
        )
        return part, requests

    def _is_there_already(self, text: str, source: str, target: str) -> bool:
        if not same_language(source, target):
            return False
        return not self._detects or detect(text).confidence >= SURE

    def _cut(self, text: str, source: str, budget: int) -> Document:
        assert self._meter is not None, "a renderer measures the task first"
        context = 0 if self.asks_languages else self.context_tokens
        return cut(text, language=source, budget=budget, count=self._meter.count, context=context)

    def _budget(self, source: str, target: str) -> int:
        """Most tokens of a chunk, so that its prompt and its answer fit into the model."""
        assert self._meter is not None, "a renderer measures the task first"
        wording = self._meter.count(text_prompt("", find_language(source), find_language(target)))
        room = self._meter.max_model_len - wording - TEMPLATE_TOKENS
        if not self.asks_languages:
            room -= self.context_tokens + (TERMS_TOKENS if self.glossary is not None else 0)
        fits = (room - SLACK) // (1 + GROWTH) if self.max_tokens is None else room - self.max_tokens
        return max(MIN_BUDGET, min(self.chunk_tokens, fits))

    def _request(self, chunk: Chunk, source: str, target: str) -> Request:
        assert self._meter is not None, "a renderer measures the task first"
        max_tokens = self.max_tokens or GROWTH * self._meter.count(chunk.text) + SLACK
        sampling = Sampling(max_tokens)
        if self.asks_languages:
            return Request(chunk.text, sampling, languages=(source, target), may_fail=True)
        prompt = text_prompt(
            chunk.text,
            find_language(source),
            find_language(target),
            context=chunk.context,
            terms=self._terms(chunk.text, source, target),
        )
        return Request(prompt, sampling, may_fail=True)

    def _terms(self, text: str, source: str, target: str) -> tuple[tuple[str, str], ...]:
        return () if self.glossary is None else self.glossary.terms(text, source, target)

    def result(self, state: object, generations: Sequence[Generation]) -> Result:
        """The texts put together, each with its outcome and what it lost."""
        assert isinstance(state, State)
        columns: dict[str, object] = dict(state.columns)
        answers: dict[str, Answer] = {}
        begin = 0
        for part in state.parts:
            answer = self._answered(part, generations[begin : begin + part.requests])
            begin += part.requests
            name = _name(part.column, part.target)
            answers[name] = answer
            columns |= {name: answer.text, f"{name}_outcome": answer.outcome}
            if self.image_column is None:
                columns[f"{name}_lost"] = answer.lost
        outcome = worst(answer.outcome for answer in answers.values())
        return Result(columns, outcome, _told(answers), partial=True)

    def _answered(self, part: Part, generations: Sequence[Generation]) -> Answer:
        failures = [g.failure for g in generations if g.failure is not None]
        if part.fault is not None or failures:
            error = part.fault or failures[0]
            return Answer(outcome=error.outcome, error=str(error))
        texts = [generation.text.strip() for generation in generations]
        if part.text is None:
            joined, kept = texts[0], None
        else:
            joined = part.document.join(texts) if part.document is not None else part.text
            kept = lost(part.text, joined, glossary_terms=part.terms)
        fault = self._fault(part, joined) if generations else None
        if fault is not None:
            return fault
        is_cut = any(generation.finish_reason == "length" for generation in generations)
        return Answer(text=joined, lost=kept, outcome=Outcome.TRUNCATED if is_cut else Outcome.OK)

    def _fault(self, part: Part, joined: str) -> Answer | None:
        """What is wrong with an answer as a whole."""
        if is_repetitive(joined, part.text or ""):
            error = f"parse: the answer runs in circles: {_excerpt(joined[-EXCERPT:])}"
            return Answer(outcome=Outcome.REPETITION, error=error)
        if self.check_language and is_wrong_language(joined, part.target, part.source):
            found = detect(joined).language
            error = f"parse: the answer is {found}, not {part.target}: {_excerpt(joined)}"
            return Answer(outcome=Outcome.WRONG_LANGUAGE, error=error)
        return None


def _name(column: str, target: str) -> str:
    return f"{column}_{column_suffix(target)}"


def _check_names(names: Sequence[str]) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"to: two columns would be called '{twice}'; name each language once")


def _excerpt(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= EXCERPT else line[: EXCERPT - 1] + "…")


def _told(answers: Mapping[str, Answer]) -> str | None:
    """What went wrong, once where it is the same for all."""
    errors = {name: answer.error for name, answer in answers.items() if answer.error is not None}
    if len(errors) == len(answers) and len({*errors.values()}) == 1:
        return next(iter(errors.values()))
    return "; ".join(f"{name}: {error}" for name, error in errors.items()) or None
