"""A CSV file with a column for each language: how it is read, and the pairs in it.

The file is UTF-8, with a header of language codes, and an empty cell where a row has nothing in a
language:

    en,de,fr
    gear box,Getriebe,boîte de vitesses
    SPAM,SPAM,

Glossaries and examples of translations are such files.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from jobs.options.files import read_text
from jobs.options.languages import find_language
from jobs.translation.detection import region_of, same_language
from pipeline.contract.errors import UserError

Line = tuple[int, list[str]]
"""The number of a line in the file, from 1, and its cells."""


@dataclass(frozen=True)
class LanguageTable:
    """Texts in several languages.

    Attributes:
        languages: Language codes of its columns.
        rows: Each row's text in each language, in this order, or empty.
    """

    languages: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @classmethod
    def from_json(cls, value: Mapping[str, Sequence[object]]) -> Self:
        """The table from what `asdict` made of it, after a round trip through JSON."""
        rows = tuple(tuple(map(str, row)) for row in value["rows"] if isinstance(row, list | tuple))
        return cls(tuple(map(str, value["languages"])), rows)

    def pairs(self, source: str, target: str) -> tuple[tuple[str, str], ...]:
        """The rows that have a text in both languages, in the order of the file.

        There are none where one column serves both, as `pt` does for `pt-BR` and `pt-PT`.

        Args:
            source: Code of a language; without a column of its own, see `column`, that of a region
                is used: what is detected is `en`, and the header may have `en-US`.
            target: Code of the other one.
        """
        one, other = self.source_column(source), self.column(target)
        if one is None or other is None or one == other:
            return ()
        return tuple((row[one], row[other]) for row in self.rows if row[one] and row[other])

    def column(self, code: str) -> int | None:
        """The index of the column with this code, or of one of no region that means the language.

        `de` serves `de-AT`, `zh-Hant` serves `zh-TW`, and `no` serves `nb`; `zh` has another script
        than `zh-TW`, and `pt-BR` is not all of `pt`.
        """
        if code in self.languages:
            return self.languages.index(code)
        return self._find(code, lambda language: region_of(language) is None)

    def source_column(self, code: str) -> int | None:
        """As `column`; failing that, the first column that means the language in any region."""
        found = self.column(code)
        return self._find(code, lambda _: True) if found is None else found

    def _find(self, code: str, is_usable: Callable[[str], bool]) -> int | None:
        for place, language in enumerate(self.languages):
            if is_usable(language) and same_language(code, language):
                return place
        return None


def read_lines(what: str, path: str | Path) -> list[Line]:
    """The lines of a CSV file that are not empty, their cells without white space around them.

    Args:
        what: What the file is, for messages: "glossary".
        path: The file.

    Raises:
        UserError: It cannot be read, is not UTF-8 or not CSV, or has no line.
    """
    text = read_text(what, path, "utf-8-sig")
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        rows = [(lines.line_num, row) for row in lines]
    except csv.Error as error:
        raise UserError(f"{what} {path}, line {lines.line_num}: {error}") from None
    rows = [(number, [cell.strip() for cell in row]) for number, row in rows if any(row)]
    if not rows:
        raise UserError(f"{what} {path}: is empty; its header should be codes like en,de,fr")
    return rows


def read_header(what: str, path: str | Path, line: Line) -> tuple[str, ...]:
    """The language codes of a header.

    Raises:
        UserError: They are no codes, one is there twice, or there is only one.
    """
    number, cells = line
    try:
        codes = tuple(find_language(cell).code for cell in cells)
    except UserError as error:
        raise UserError(f"{what} {path}, line {number}: {error}") from None
    for code in codes:
        if codes.count(code) > 1:
            raise UserError(f"{what} {path}, line {number}: '{code}' is there twice")
    if len(codes) == 1:
        raise UserError(f"{what} {path}, line {number}: has one language; it needs two")
    return codes


def read_row(what: str, path: str | Path, columns: int, line: Line) -> tuple[str, ...]:
    """The cells of a line, with empty ones up to the number of columns.

    Raises:
        UserError: It has more cells than there are columns.
    """
    number, cells = line
    if len(cells) > columns:
        raise UserError(
            f"{what} {path}, line {number}: has {len(cells)} cells, the header {columns}; a text "
            'with a comma goes in quotes: "gears, used"'
        )
    return (*cells, *[""] * (columns - len(cells)))
