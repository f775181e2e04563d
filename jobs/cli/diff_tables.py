"""Shows on a terminal what differs between two runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Column, Table
from rich.text import Text

from jobs.cli.tables import plain
from jobs.report.diff.words import Kind, around_change, differing_words

if TYPE_CHECKING:
    from rich.console import RenderableType

    from jobs.report.diff.changes import Changes, Sample
    from jobs.report.diff.compare import Difference

SAMPLES = 5
LONGEST = 200
"""Characters of a value that are shown."""
STYLES = {Kind.REMOVED: "red", Kind.ADDED: "green", Kind.SAME: ""}
MARKS = {Kind.REMOVED: ("[-", "-]"), Kind.ADDED: ("{+", "+}"), Kind.SAME: ("", "")}
"""As `git diff --word-diff` writes them, for terminals without colours too."""


def diff_text(found: Difference) -> RenderableType:
    """What differs between two runs: a sentence and tables."""
    changes = found.changes
    shown: list[RenderableType] = [_head(found)]
    if found.settings:
        shown.append(_settings(found))
    if changes.both:
        shown += [_outcomes(changes), _answers(changes)]
    samples = [s for s in changes.kept() if _first_change(s) is not None]
    if samples:
        shown.append(_samples(samples[:SAMPLES]))
    return Group(*shown)


def _head(found: Difference) -> Text:
    changes = found.changes
    share = changes.any_answer / changes.both if changes.both else 0.0
    lines = [
        f"{changes.both:,} rows in both, {changes.any_answer:,} of them with another answer "
        f"({share:.1%}); {changes.alone[0]:,} in the first alone, {changes.alone[1]:,} in the "
        "second alone"
    ]
    if any(changes.unclear):
        lines.append(
            f"Left out, as their '{found.on}' is null or not the only one: {changes.unclear[0]:,} "
            f"rows of the first, {changes.unclear[1]:,} of the second"
        )
    if not changes.both and found.on is None and found.one.rows and found.other.rows:
        lines.append(
            "The two were cut from INPUT differently, so no row_key is in both; give --on COLUMN "
            "with a column that identifies a row"
        )
    if not found.settings:
        lines.append("Nothing that decides results differs in their settings")
    return Text("\n".join(lines))


def _settings(found: Difference) -> Table:
    table = Table("setting", *(Column(name, overflow="fold") for name in ("first", "second")))
    for name, pair in found.settings.items():
        table.add_row(Text(plain(name)), *(Text(_value(value)) for value in pair))
    return table


def _outcomes(changes: Changes) -> Table:
    names = sorted({name for pair in changes.outcomes for name in pair})
    right = [Column(name, justify="right", overflow="fold") for name in names]
    table = Table(Column("first, then second", overflow="fold"), *right)
    for before in names:
        table.add_row(before, *(_count(changes.outcomes[before, after]) for after in names))
    return table


def _answers(changes: Changes) -> Table:
    names = ("changed", "share", *(("moved by", "at most") if changes.distance else ()))
    right = [Column(name, justify="right") for name in names]
    table = Table(Column("answer", overflow="fold"), *right)
    for name in changes.compared:
        distance = changes.distance.get(name)
        moved = [f"{distance.mean:.4f}", f"{distance.most:.4f}"] if distance else []
        changed = changes.changed[name]
        table.add_row(Text(plain(name)), f"{changed:,}", f"{changed / changes.both:.1%}", *moved)
    return table


def _samples(samples: list[Sample]) -> Table:
    table = Table(Column("row", overflow="fold"), Column("some that changed", overflow="fold"))
    for sample in samples:
        change = _first_change(sample)
        assert change is not None, "only changed ones are shown"
        text = Text()
        for piece in differing_words(*around_change(*change, LONGEST)):
            text.append(plain(piece.text).join(MARKS[piece.kind]), STYLES[piece.kind])
        table.add_row(Text(plain(sample.name[-60:])), text)
    return table


def _first_change(sample: Sample) -> tuple[str, str] | None:
    """The first answer that changed, else the outcomes, if these did."""
    changed = (pair for pair in sample.answers.values() if pair[0] != pair[1])
    outcomes = sample.outcomes if sample.outcomes[0] != sample.outcomes[1] else None
    return next(changed, outcomes)


def _count(rows: int) -> str:
    return f"{rows:,}" if rows else ""


def _value(value: object) -> str:
    if value is None:
        return "none"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return plain(text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…")
