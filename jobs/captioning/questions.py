"""Several questions about a row's images: each has a column, and may use the answers to others.

All requests of a row carry the same images, which the engine therefore encodes once. A question
that names another one in braces (`{caption}`) is asked once that one has an answer, and not at
all if it has none.
"""

from __future__ import annotations

import functools
import graphlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from jobs.captioning.prompt import columns_in, fill_columns
from jobs.captioning.task import CaptionTask
from pipeline import (
    ColumnKind,
    Generation,
    Outcome,
    Prepared,
    Request,
    Result,
    RowError,
    UserError,
)
from pipeline.contract.errors import one_line
from pipeline.contract.record import OF_A_RUN, combined_error, worst
from pipeline.contract.task import PICTURES

if TYPE_CHECKING:
    from pipeline.contract.task import Row


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question.

    Attributes:
        name: Its column; `{name}` in another prompt is its answer.
        task: What is asked, and what becomes of the answer.
        image: Whether the row's images are shown with it.
    """

    name: str
    task: CaptionTask
    image: bool = True

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """What its prompt names in braces: questions and columns."""
        return columns_in(self.task.prompt)

    @property
    def settings(self) -> Mapping[str, object]:
        """Everything that decides the answers."""
        return {"name": self.name, "image": self.image, **self.task.settings}

    @classmethod
    def restored(cls, *, name: str, image: bool, **settings: Any) -> Question:
        """The question of such `settings`."""
        return cls(name=name, image=image, task=CaptionTask(**settings))


@dataclass(frozen=True, kw_only=True)
class State:
    """What a row needs after its first requests.

    Attributes:
        asked: Names of the questions, in the order of the row's requests.
        row: The columns that prompts name.
    """

    asked: tuple[str, ...]
    row: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class QuestionsTask:
    """Answers to several questions about each row's image, images or video.

    Attributes:
        questions: The questions; mappings, as in a run's record, become questions.
        image_column: Column with the row's image, or a list of images.

    Raises:
        UserError: Questions refer to each other in a circle; two columns would have one name; or
            the images would first be shown after an answer.
    """

    questions: tuple[Question, ...]
    image_column: str = "image"

    name = "caption"

    def __post_init__(self) -> None:
        made = (q if isinstance(q, Question) else Question.restored(**q) for q in self.questions)
        object.__setattr__(self, "questions", tuple(made))
        names = [*self.result_schema.names, *OF_A_RUN]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise UserError(f"prompts: two columns would be called '{twice}'; rename a question")
        self._check_order()

    def _check_order(self) -> None:
        try:
            graphlib.TopologicalSorter({q.name: self._needs(q) for q in self.questions}).prepare()
        except graphlib.CycleError as error:
            circle = " -> ".join(reversed(error.args[1]))
            raise UserError(
                f"prompts: questions wait for each other's answers ({circle}); take one out"
            ) from None
        if not any(q.image and not self._needs(q) for q in self.questions):
            raise UserError(
                "prompts: at least one question should be shown the image without waiting for an "
                "answer"
            )

    @functools.cached_property
    def _by_name(self) -> Mapping[str, Question]:
        return {question.name: question for question in self.questions}

    def _needs(self, question: Question) -> list[str]:
        """The questions whose answers it uses."""
        return [name for name in question.names if name in self._by_name]

    @property
    def columns(self) -> Mapping[str, ColumnKind]:
        """The column of images or of videos, and the columns in the prompts."""
        named = dict.fromkeys(
            (name for q in self.questions for name in q.names if name not in self._by_name),
            ColumnKind.VALUE,
        )
        return {**self._pictures, **named}

    @functools.cached_property
    def _pictures(self) -> Mapping[str, ColumnKind]:
        """The column of images or of videos."""
        columns = (item for q in self.questions for item in q.task.columns.items())
        return {name: kind for name, kind in columns if kind in PICTURES}

    @property
    def most_frames(self) -> int:
        """See `pipeline.contract.task.ShowsVideos`."""
        return max(question.task.most_frames for question in self.questions)

    @property
    def result_schema(self) -> pa.Schema:
        """For each question `q` its answer `q`, of its own type, and `q_outcome`."""
        fields: list[pa.Field] = []
        for question in self.questions:
            answer, *others = question.task.fields(question.name)
            fields += [answer, pa.field(f"{question.name}_outcome", pa.string()), *others]
        return pa.schema(fields)

    @property
    def settings(self) -> Mapping[str, object]:
        """Everything that decides the answers."""
        questions = [question.settings for question in self.questions]
        return {"questions": questions, "image_column": self.image_column}

    def prepare(self, row: Row) -> Prepared:
        """A request for each question that waits for no answer.

        Raises:
            RowError: The list of images is empty.
        """
        first = [q for q in self.questions if not self._needs(q)]
        requests = []
        for question in first:
            request = question.task.request(fill_columns(question.task.prompt, row), row)
            images = request.images if question.image else ()
            requests.append(replace(request, images=images, may_fail=True))
        kept = {name: row[name] for name in self.columns if name not in self._pictures}
        return Prepared(tuple(requests), State(asked=tuple(q.name for q in first), row=kept))

    def follow_up(self, state: object, generations: Sequence[Generation]) -> Prepared | None:
        """A request for each question whose answers have come since; see `FollowsUp`."""
        assert isinstance(state, State)
        results = self._results(state, generations)
        answers = {name: r for name, r in results.items() if r.outcome.has_results}
        due = [
            question
            for question in self.questions
            if question.name not in state.asked and answers.keys() >= {*self._needs(question)}
        ]
        if not due:
            return None
        values = {**state.row, **{name: _text(r.columns[name]) for name, r in answers.items()}}
        shown = self._shown(state, generations)
        requests = tuple(
            Request(
                fill_columns(question.task.prompt, values),
                question.task.sampling,
                system=question.task.system,
                may_fail=True,
                images_of=shown if question.image else None,
            )
            for question in due
        )
        return Prepared(requests, replace(state, asked=(*state.asked, *(q.name for q in due))))

    def _shown(self, state: State, generations: Sequence[Generation]) -> int:
        """The number of a request that was shown the images, one that was answered if any."""
        shown = [number for number, name in enumerate(state.asked) if self._by_name[name].image]
        answered = (number for number in shown if generations[number].failure is None)
        return next(answered, shown[0])

    def result(self, state: object, generations: Sequence[Generation]) -> Result:
        """The answers, each with its outcome; the row's is the worst of them."""
        assert isinstance(state, State)
        results = self._results(state, generations)
        results = {
            question.name: self._or_why_not(question, results) for question in self.questions
        }
        columns: dict[str, object] = {}
        for name, result in results.items():
            columns |= {**result.columns, f"{name}_outcome": result.outcome}
        errors = {name: result.error for name, result in results.items()}
        outcome = worst(result.outcome for result in results.values())
        return Result(columns, outcome, combined_error(errors), partial=True)

    def _results(self, state: State, generations: Sequence[Generation]) -> dict[str, Result]:
        """What became of the questions that were asked."""
        asked = zip(state.asked, generations, strict=True)
        return {name: _result(self._by_name[name], generation) for name, generation in asked}

    def _or_why_not(self, question: Question, results: Mapping[str, Result]) -> Result:
        """What became of a question; one that was not asked has the outcome of those it needs."""
        if question.name in results:
            return results[question.name]
        needed = {
            name: self._or_why_not(self._by_name[name], results) for name in self._needs(question)
        }
        missing = [name for name, result in needed.items() if not result.outcome.has_results]
        outcome = worst(needed[name].outcome for name in missing)
        return Result(outcome=outcome, error=f"render: '{missing[0]}' has no answer to ask about")


def _result(question: Question, generation: Generation) -> Result:
    """The columns of an answer and its outcome, or why there is none."""
    try:
        if generation.failure is not None:
            raise generation.failure
        return question.task.answer(question.name, generation)
    except RowError as error:
        return Result(outcome=error.outcome, error=str(error))
    except ValueError as error:  # not JSON of its schema
        return Result(outcome=Outcome.ENGINE_ERROR, error=f"parse: {one_line(error)}")


def _text(answer: object) -> str:
    """An answer as another prompt has it."""
    return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
