"""Decides what each column of an OUTPUT is to a reader: a source, an answer, a score, a remark.

It goes by the run's record and by how our jobs name their columns, which hold for tasks of others
as far as they name theirs so: `..._outcome`, `..._lost`, `..._raw`, `..._quality`, `p_...`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from jobs.options.languages import column_suffix
from pipeline.contract.record import ADDED
from pipeline.output.run_record import prefix_of

if TYPE_CHECKING:
    from pipeline.output.run_record import Record

NAMES = ("path", "name", "file_name", "filename", "title", "url", "__key__", "key", "id")
"""Columns that tell people which row it is, the first that there is."""
OF_ANSWERS = {"outcome": "outcome", "lost": "lost", "raw": "raw", "quality": "quality"}
THRESHOLD = 0.5
"""Of a policy whose threshold the record does not tell."""
SCORE = "p_"


class Role(StrEnum):
    """What a column is."""

    SOURCE = "source"
    """What was asked about, where that is text."""
    ANSWER = "answer"
    SCORE = "score"
    """A probability, with a threshold."""
    REMARK = "remark"
    """Something about an answer."""
    OTHER = "other"
    """Of the input, not asked about."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of an OUTPUT.

    Attributes:
        name: As in OUTPUT.
        role: What it is.
        label: What readers see.
        of: The column that it says something about.
        language: Code of the language that its text is in, where that is known.
        threshold: Of a score: the run's own.
    """

    name: str
    role: Role
    label: str
    of: str | None = None
    language: str | None = None
    threshold: float | None = None


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The columns of an OUTPUT, without those of every run.

    Attributes:
        all: In the order of OUTPUT.
        naming: The column that names a row; None if none does.
        prefix: What the names of the columns that the run added begin with.
    """

    all: tuple[Column, ...]
    naming: str | None
    prefix: str

    def of_role(self, role: Role) -> list[Column]:
        """Those of one role."""
        return [column for column in self.all if column.role is role]

    def without(self, names: Collection[str]) -> Columns:
        """Those that are not among some."""
        return replace(self, all=tuple(c for c in self.all if c.name not in names))

    def added(self, name: str) -> str:
        """The name, in this OUTPUT, of a column that every run adds."""
        return f"{self.prefix}{name}"


def columns_of(record: Record, names: Collection[str]) -> Columns:
    """What the columns of an OUTPUT are.

    Args:
        record: The run's record.
        names: The columns, in order.
    """
    prefix = prefix_of(record)
    ours = {f"{prefix}{name}" for name in ADDED.names}
    results = {f"{prefix}{name}": str(kind) for name, kind in record["columns"].items()}
    sources = dict(_sources(record["settings"]))
    languages = dict(_languages(record["settings"], prefix))
    thresholds = dict(_thresholds(record["settings"], prefix))
    found = []
    for name in names:
        if name in ours:
            continue
        if name in results:
            about = _language_of(name.removeprefix(prefix), record["columns"], sources)
            found.append(_result(name, results, prefix, languages, thresholds, about))
        else:
            role = Role.SOURCE if name in sources else Role.OTHER
            found.append(Column(name=name, role=role, label=name, language=sources.get(name)))
    naming = next((name for name in NAMES if name in names and name not in results), None)
    return Columns(all=tuple(found), naming=naming, prefix=prefix)


def _result(
    name: str,
    results: Mapping[str, str],
    prefix: str,
    languages: Mapping[str, str],
    thresholds: Mapping[str, float],
    about: str | None,
) -> Column:
    bare = name.removeprefix(prefix)
    answer, _, what = name.rpartition("_")
    is_of_answer = what in OF_ANSWERS and answer in results
    may_be_score = not thresholds and bare.startswith(SCORE) and results[name] == "double"
    if name in thresholds or (may_be_score and not is_of_answer):
        threshold = thresholds.get(name, THRESHOLD)
        label = bare.removeprefix(SCORE)
        return Column(name=name, role=Role.SCORE, label=label, threshold=threshold)
    if thresholds:  # `flagged` and `labels` follow from the scores and the thresholds
        return Column(name=name, role=Role.REMARK, label=bare)
    if is_of_answer:
        return Column(name=name, role=Role.REMARK, label=OF_ANSWERS[what], of=answer)
    if about is not None:
        return Column(name=name, role=Role.REMARK, label=bare, of=about)
    return Column(name=name, role=Role.ANSWER, label=bare, language=languages.get(name))


def _language_of(result: str, results: Collection[str], sources: Collection[str]) -> str | None:
    """The column of INPUT whose language a result tells, or how sure that is; None if neither.

    One that was found is told with its confidence; an answer may be called `spoken_language`.
    """
    language = result.removesuffix("_confidence")
    of = language.removesuffix("_language")
    is_found = f"{language}_confidence" in results or of in sources
    return of if is_found and of != language else None


def _sources(settings: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    """The input's texts that were asked about, and their language."""
    source = settings.get("source")
    language = source if isinstance(source, str) and source != "auto" else None
    named = settings.get("text_columns") or [settings.get("text_column")]
    for name in named if isinstance(named, list) else []:
        if isinstance(name, str):
            yield name, language


def _languages(settings: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    """The columns of translations, and their language."""
    texts: list[object] = [name for name, _ in _sources(settings)]
    texts = texts or [settings.get("image_column")]
    for target in settings.get("targets") or ():
        for text in texts:
            yield f"{prefix}{text}_{column_suffix(target)}", target


def _thresholds(settings: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, float]]:
    for policy in settings.get("policies") or ():
        if isinstance(policy, Mapping) and "name" in policy:
            threshold = policy.get("threshold", THRESHOLD)
            yield f"{prefix}{SCORE}{policy['name']}", float(threshold)
