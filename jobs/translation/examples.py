"""Examples of translations that are shown to the model: read from a CSV file.

The file is as `language_table` says. Where a job has one source language and one target, the header
may also be `source,target`. An example is one line, as what is translated after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jobs.translation.language_table import LanguageTable, Line, read_header, read_lines, read_row
from pipeline.contract.errors import UserError

WHAT = "examples"
PLAIN_HEADER = ["source", "target"]


class Examples(LanguageTable):
    """Translations to follow."""


def read_examples(path: str | Path, source: str | None, targets: Sequence[str]) -> Examples:
    """Read examples from a CSV file.

    Args:
        path: The file.
        source: Code of the texts' language; None where it differs from row to row.
        targets: Codes of the languages that are translated to.

    Raises:
        UserError: The file cannot be read, is not in the format that the module describes, or has
            no example for one of the languages.
    """
    lines = read_lines(WHAT, path)
    languages = _languages(path, lines[0], source, targets)
    rows = [read_row(WHAT, path, len(languages), line) for line in lines[1:]]
    for (number, _), row in zip(lines[1:], rows, strict=True):
        if any(len(cell.splitlines()) > 1 for cell in row):
            raise UserError(
                f"{WHAT} {path}, line {number}: has a line break in a cell; an example is one line"
            )
    examples = Examples(languages, tuple(rows))
    for target in targets:
        if examples.column(target) is None:
            raise UserError(
                f"{WHAT} {path}: has no column '{target}'; add it, or leave it out of to"
            )
        if source is not None and not examples.pairs(source, target):
            raise UserError(
                f"{WHAT} {path}: has no row with both '{source}' and '{target}'; add one"
            )
    return examples


def _languages(
    path: str | Path, header: Line, source: str | None, targets: Sequence[str]
) -> tuple[str, ...]:
    if [cell.lower() for cell in header[1]] != PLAIN_HEADER:
        return read_header(WHAT, path, header)
    if source is None or len(targets) > 1:
        raise UserError(
            f"{WHAT} {path}, line {header[0]}: 'source,target' is for one language each; name the "
            "columns by their codes: en,de"
        )
    return source, targets[0]
