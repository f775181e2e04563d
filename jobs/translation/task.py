"""The translation task: from a row to requests, and from the answers to the result columns.

A text is cut into chunks (`documents`); each chunk is one request for each target language.
`answers` puts the chunks' translations together and checks them. Each text in each language has an
outcome of its own; the row's outcome is the worst of them, and the good translations are kept.

    the text                                        outcome
    is null                                         missing_input
    is already in the target language               ok, copied
    has no words (empty, numbers, emoji)            ok, copied
    does not fit into the model                     too_long
    its answer repeats itself                       repetition
    its answer is empty, declines, or asks for it   refused
    its answer is not in the target language        wrong_language
    its answer is longer than `max_tokens`          truncated, with what there is
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pyarrow as pa

from jobs.answers.check import EXCERPT
from jobs.answers.repetition import has_run
from jobs.options.languages import column_suffix, find_language
from jobs.options.writing import WRITING, recorded
from jobs.translation.answers import Answer, Pending
from jobs.translation.detection import Detected, detect, same_language
from jobs.translation.documents import Chunk, Document, cut
from jobs.translation.documents.document import MIN_BUDGET
from jobs.translation.examples import Examples
from jobs.translation.glossary import Glossary
from jobs.translation.prompts import (
    END_OF_LINE,
    beginning,
    image_completion,
    image_prompt,
    notes,
    text_completion,
    text_prompt,
)
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
from pipeline.contract.record import combined_error, worst

if TYPE_CHECKING:
    from pipeline.contract.task import Row, TextMeter

AUTO = "auto"
SURE = 0.8
"""Least confidence at which a text in the target language is copied; see `detection`."""
GROWTH = 3
SLACK = 64
"""By default an answer may have `GROWTH` times the chunk's tokens, and `SLACK` more."""
TEMPLATE_TOKENS = 32
"""Room for the tokens of the chat template itself."""
TERMS_TOKENS = 256
"""Room for glossary terms; there are at most `glossary.MOST_TERMS`."""
IMAGE_TOKENS = 1024
"""Longest translation of an image's text by default, in tokens."""
ABOUT_TOKENS = 256
"""Most tokens of `context_column` that are shown; what is longer is cut."""
LATER = (*WRITING, "continues_text", "instructions", "context_column", "consistent")
"""Fields that earlier versions, whose runs can be finished, did not have."""


@dataclass(frozen=True, kw_only=True)
class State:
    """What `result` needs of `prepare`.

    Attributes:
        pending: The translations that were asked for, in the order of the requests.
        columns: Result columns that are known already: the detected languages.
    """

    pending: tuple[Pending, ...]
    columns: Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class TranslationTask:
    """Translations of a row's texts, or of the text in its image.

    Attributes:
        targets: Codes of the languages to translate to.
        text_columns: Columns with texts; empty with an image column.
        image_column: Column with an image.
        source: Code of the language of all texts, or `auto` to detect each.
        source_column: Column with the code of each row's language.
        asks_languages: Whether the checkpoint's chat template takes the two codes and adds the
            prompt itself, as TranslateGemma's does. It has no place for context and terms.
        continues_text: Whether the model continues raw text, as a base model does, and is not
            asked. Then each line of a text is translated by itself, without context.
        examples: Translations to follow.
        glossary: Terms with a fixed translation.
        chunk_tokens: Most tokens in a chunk.
        context_tokens: Most tokens of preceding text shown with a chunk.
        max_tokens: Longest answer for a chunk, in tokens; None for three times the chunk and 64.
        check_language: Whether to check the language of the translations.
        instructions: What to heed in every translation, in the user's words.
        context_column: Column with what a row's texts are about.
        consistent: Whether a document's chunks are asked for one after the other (`in_order`).
        stop: Texts that end an answer.
        presence_penalty: See `Sampling`.
        frequency_penalty: See `Sampling`.
        repetition_penalty: See `Sampling`.
        clean: Whether what is around an answer is cut; adds `text_de_raw`.
        quality: Whether to add `text_de_quality`.
    """

    targets: tuple[str, ...]
    text_columns: tuple[str, ...] = ()
    image_column: str | None = None
    source: str = AUTO
    source_column: str | None = None
    asks_languages: bool = False
    continues_text: bool = False
    examples: Examples | None = None
    glossary: Glossary | None = None
    chunk_tokens: int = 512
    context_tokens: int = 64
    max_tokens: int | None = None
    check_language: bool = True
    instructions: str | None = None
    context_column: str | None = None
    consistent: bool = False
    stop: tuple[str, ...] = ()
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    clean: bool = False
    quality: bool = False
    _meter: TextMeter | None = field(default=None, compare=False, repr=False)

    name = "translate"

    def __post_init__(self) -> None:
        for name in ("targets", "text_columns", "stop"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if isinstance(self.glossary, Mapping):
            object.__setattr__(self, "glossary", Glossary.from_json(self.glossary))
        if isinstance(self.examples, Mapping):
            object.__setattr__(self, "examples", Examples.from_json(self.examples))
        if bool(self.text_columns) == (self.image_column is not None):
            raise UserError("translation: name text columns or an image column, one of the two")
        if self.image_column is not None and self.source == AUTO and self.source_column is None:
            raise UserError("source: is not detected in images; name the language of their text")
        if len({*self.text_columns}) < len(self.text_columns):
            raise UserError("text_columns: a column is there twice; name each once")
        names = self.result_schema.names
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise UserError(f"to: two columns would be called '{twice}'; name each language once")

    @property
    def columns(self) -> Mapping[str, ColumnKind]:
        """The columns with texts, the image and the language."""
        read = dict.fromkeys(self.text_columns, ColumnKind.TEXT)
        if self.source_column is not None:
            read[self.source_column] = ColumnKind.TEXT
        if self.image_column is not None:
            read[self.image_column] = ColumnKind.IMAGE
        if self.context_column is not None and self.context_column not in read:
            read[self.context_column] = ColumnKind.VALUE
        return read

    @property
    def result_schema(self) -> pa.Schema:
        """For column `c` and target `de`: `c_de`, `c_de_outcome`, `c_de_lost`; `c_language`."""
        return pa.schema([*self._result_fields()])

    def _result_fields(self) -> Iterator[pa.Field]:
        for column in self._columns:
            if self._detects:
                yield pa.field(f"{column}_language", pa.string())
                yield pa.field(f"{column}_language_confidence", pa.float64())
            for target in self.targets:
                name = _result_column(column, target)
                yield pa.field(name, pa.string())
                yield pa.field(f"{name}_outcome", pa.string())
                if self.image_column is None:
                    yield pa.field(f"{name}_lost", pa.list_(pa.string()))
                if self.clean:
                    yield pa.field(f"{name}_raw", pa.string())
                if self.quality:
                    yield pa.field(f"{name}_quality", pa.float64())

    @property
    def settings(self) -> Mapping[str, object]:
        """Everything that decides the results: the task's own fields."""
        own = recorded(replace(self, _meter=None), LATER)
        return {name: value for name, value in own.items() if name != "_meter"}

    @property
    def _columns(self) -> tuple[str, ...]:
        return self.text_columns if self.image_column is None else (self.image_column,)

    @property
    def _detects(self) -> bool:
        return self.source == AUTO and self.source_column is None

    def measured(self, meter: TextMeter) -> TranslationTask:
        """The same task with a meter, by which texts are cut."""
        return replace(self, _meter=meter)

    @property
    def shown_tokens(self) -> int:
        """Most tokens of a chunk's translation that are shown with the next chunk."""
        return 2 * self.context_tokens

    def count(self, text: str) -> int:
        """Tokens of a text."""
        return self._text_meter.count(text)

    @property
    def _text_meter(self) -> TextMeter:
        assert self._meter is not None, "a renderer calls `measured` first"
        return self._meter

    def prepare(self, row: Row) -> Prepared:
        """One request for each chunk of each text and each target language."""
        pending: list[Pending] = []
        requests: list[Request] = []
        languages: dict[str, object] = {}
        ask = self._ask_for_text if self.image_column is None else self._ask_for_image
        about = self._about(row)
        for column in self._columns:
            try:
                source = self._source_of(row, column)
            except RowError as error:
                pending += (Pending(column=column, target=t, fault=error) for t in self.targets)
                continue
            if self._detects:
                languages[f"{column}_language"] = source.language
                confidence = None if source.language is None else source.confidence
                languages[f"{column}_language_confidence"] = confidence
            for translation, asked in ask(column, row[column], source, about):
                pending.append(translation)
                requests += asked
        return Prepared(tuple(requests), State(pending=tuple(pending), columns=languages))

    def _source_of(self, row: Row, column: str) -> Detected:
        """The language of a column's text, with confidence 1 where it is named."""
        if self.image_column is None and row[column] is None:
            raise RowError(Outcome.MISSING_INPUT, "render", f"column '{column}' has no value")
        if self.source_column is None:
            return detect(row[column]) if self._detects else Detected(self.source, 1.0)
        code = row[self.source_column]
        if code is None:
            message = f"'{self.source_column}', the text's language, is null"
            raise RowError(Outcome.MISSING_INPUT, "render", message)
        try:
            return Detected(find_language(str(code)[:EXCERPT]).code, 1.0)
        except UserError as error:
            message = f"'{self.source_column}': {error}"
            raise RowError(Outcome.MISSING_INPUT, "render", message) from None

    def _ask_for_image(
        self, column: str, image: object, source: Detected, about: str
    ) -> Iterator[tuple[Pending, Sequence[Request]]]:
        assert source.language is not None, "the language of an image's text is named"
        for target in self.targets:
            codes = (source.language, target)
            prompt = image_completion if self.continues_text else image_prompt
            request = Request(
                ""
                if self.asks_languages
                else notes(self.instructions, about) + prompt(*map(find_language, codes)),
                self._sampling(self.max_tokens or IMAGE_TOKENS),
                images=(ImageRef(image),),
                languages=codes if self.asks_languages else None,
                may_fail=True,
            )
            pending = Pending(column=column, target=target, source=source.language, requests=1)
            yield pending, (request,)

    def _ask_for_text(
        self, column: str, text: str, source: Detected, about: str
    ) -> Iterator[tuple[Pending, Sequence[Request]]]:
        code = source.language
        context = self.context_tokens if self._has_context else 0
        documents: dict[int, Document] = {}
        for target in self.targets:
            pending = Pending(column=column, target=target, source=code, text=text)
            if code is None or (same_language(code, target) and source.confidence >= SURE):
                yield pending, ()
                continue
            budget = self._budget(code, target)
            if budget not in documents:
                count = self._text_meter.count
                documents[budget] = cut(
                    text,
                    language=code,
                    budget=budget,
                    count=count,
                    context=context,
                    by_line=self.continues_text,
                )
            document = documents[budget]
            requests = [self._request(chunk, code, target, about) for chunk in document.chunks]
            terms = self._terms(text, code, target)
            asked = replace(pending, document=document, terms=terms, requests=len(requests))
            yield asked, requests

    def _about(self, row: Row) -> str:
        """What a row's texts are about, at most `ABOUT_TOKENS` of it."""
        value = None if self.context_column is None else row[self.context_column]
        return "" if value is None else beginning(str(value), ABOUT_TOKENS, self._text_meter.count)

    @functools.cached_property
    def _budgets(self) -> dict[tuple[str, str], int]:
        """What `_budget` has found: a prompt's examples are counted once, not for every row."""
        return {}

    def _budget(self, source: str, target: str) -> int:
        if (source, target) not in self._budgets:
            self._budgets[source, target] = self._count_budget(source, target)
        return self._budgets[source, target]

    def _count_budget(self, source: str, target: str) -> int:
        """Most tokens in a chunk such that its prompt and its answer fit into the model."""
        prompt = self._prompt(Chunk(text=""), source, target)
        room = self._text_meter.max_model_len - self._text_meter.count(prompt) - TEMPLATE_TOKENS
        if not self.asks_languages:
            room -= TERMS_TOKENS if self.glossary is not None else 0
        room -= self.context_tokens if self._has_context else 0
        room -= ABOUT_TOKENS if self.context_column is not None else 0
        room -= self.shown_tokens if self.consistent else 0
        fits = (room - SLACK) // (1 + GROWTH) if self.max_tokens is None else room - self.max_tokens
        return max(MIN_BUDGET, min(self.chunk_tokens, fits))

    @property
    def _has_context(self) -> bool:
        """Whether the prompt has a place for the text before a chunk."""
        return not (self.asks_languages or self.continues_text)

    def _request(self, chunk: Chunk, source: str, target: str, about: str) -> Request:
        max_tokens = self.max_tokens or GROWTH * self._text_meter.count(chunk.text) + SLACK
        sampling = self._sampling(max_tokens, chunk.text)
        if self.asks_languages:
            return Request(chunk.text, sampling, languages=(source, target), may_fail=True)
        return Request(self._prompt(chunk, source, target, about), sampling, may_fail=True)

    def _sampling(self, max_tokens: int, text: str = "") -> Sampling:
        """Greedy; loops end early unless the text has one, raw text ends with its line."""
        own = (END_OF_LINE,) if self.continues_text else ()
        return Sampling(
            max_tokens,
            ends_loops=not has_run(text),
            stop=(*own, *self.stop),
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            repetition_penalty=self.repetition_penalty,
            mean_log_probability=self.quality,
        )

    def _prompt(self, chunk: Chunk, source: str, target: str, about: str = "") -> str:
        languages = find_language(source), find_language(target)
        examples = () if self.examples is None else self.examples.pairs(source, target)
        terms = self._terms(chunk.text, source, target)
        if self.continues_text:
            return text_completion(chunk.text, *languages, examples=(*examples, *terms))
        return notes(self.instructions, about) + text_prompt(
            chunk.text, *languages, context=chunk.context, terms=terms, examples=examples
        )

    def _terms(self, text: str, source: str, target: str) -> tuple[tuple[str, str], ...]:
        return () if self.glossary is None else self.glossary.terms(text, source, target)

    def result(self, state: object, generations: Sequence[Generation]) -> Result:
        """The translations, each with its outcome and what it lost."""
        assert isinstance(state, State)
        columns: dict[str, object] = dict(state.columns)
        answers: dict[str, Answer] = {}
        begin = 0
        for pending in state.pending:
            own = generations[begin : begin + pending.requests]
            begin += pending.requests
            name = _result_column(pending.column, pending.target)
            answer = answers[name] = pending.finish(
                own, check_language=self.check_language, clean=self.clean
            )
            columns |= {name: answer.text, f"{name}_outcome": answer.outcome}
            if self.image_column is None:
                columns[f"{name}_lost"] = answer.lost
            columns |= {f"{name}_raw": answer.raw} if self.clean else {}
            columns |= {f"{name}_quality": answer.quality} if self.quality else {}
        outcome = worst(answer.outcome for answer in answers.values())
        errors = {name: answer.error for name, answer in answers.items()}
        return Result(columns, outcome, combined_error(errors), partial=True)


def _result_column(column: str, target: str) -> str:
    return f"{column}_{column_suffix(target)}"
