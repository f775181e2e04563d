"""Terms with a fixed translation: read from a CSV file, and found in a text.

The file is UTF-8, with a header of language codes, a row for each term, and an empty cell where a
language has no such term:

    en,de,fr
    gear box,Getriebe,boîte de vitesses
    SPAM,SPAM,

A term is found as whole words where its script has spaces between words, else anywhere; in any case
of letters, unless it has a capital inside of a word (`SPAM` does not match `spam`). Where several
terms begin at one place, the longest is found.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import regex

from jobs.options.languages import find_language
from pipeline.contract.errors import UserError

MOST_TERMS = 40
"""Most terms of one text: more would leave no room for the text itself."""
UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"


@dataclass(frozen=True)
class Glossary:
    """The terms of a glossary.

    Attributes:
        languages: Language codes of its columns.
        rows: A row for each term: its text in each language, in this order, or empty.
    """

    languages: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @classmethod
    def from_json(cls, value: Mapping[str, Sequence[object]]) -> Glossary:
        """The glossary from what `asdict` made of it, after a round trip through JSON."""
        rows = tuple(tuple(map(str, row)) for row in value["rows"] if isinstance(row, list | tuple))
        return cls(tuple(map(str, value["languages"])), rows)

    def terms(self, text: str, source: str, target: str) -> tuple[tuple[str, str], ...]:
        """The terms that occur in a text, each with its translation; longest first.

        Args:
            text: A text in the source language.
            source: Code of its language. Without a column `de-AT`, the column `de` is used.
            target: Code of the language to translate to, likewise.
        """
        finder = self._finders.get((source, target))
        if finder is None:
            finder = self._finders[source, target] = _Finder(self._pairs(source, target))
        return finder.terms(text)

    @functools.cached_property
    def _finders(self) -> dict[tuple[str, str], _Finder]:
        return {}

    def _pairs(self, source: str, target: str) -> dict[str, str]:
        """Terms and their translations; if a term is there twice, the first translation."""
        from_, to = self._column(source), self._column(target)
        if from_ is None or to is None:
            return {}
        rows = reversed(self.rows)
        return {row[from_]: row[to] for row in rows if row[from_] and row[to]}

    def _column(self, code: str) -> int | None:
        """The index of the column with this code, or with the code without script and region."""
        for wanted in (code, code.split("-", maxsplit=1)[0]):
            if wanted in self.languages:
                return self.languages.index(wanted)
        return None


def read_glossary(path: str | Path) -> Glossary:
    """Read a glossary from a CSV file.

    Raises:
        UserError: The file cannot be read, or is not in the format that the module describes.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, strict=True)
            rows = [(lines.line_num, row) for row in lines]
    except OSError as error:
        raise UserError(f"glossary {path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise UserError(f"glossary {path}: is not UTF-8 (at byte {error.start})") from None
    except csv.Error as error:
        raise UserError(f"glossary {path}, line {lines.line_num}: {error}") from None
    rows = [(number, [cell.strip() for cell in row]) for number, row in rows if any(row)]
    if not rows:
        raise UserError(f"glossary {path}: is empty; its header should be codes like en,de,fr")
    languages = _header(path, *rows[0])
    return Glossary(languages, tuple(_row(path, languages, *row) for row in rows[1:]))


def _header(path: str | Path, number: int, cells: list[str]) -> tuple[str, ...]:
    try:
        codes = tuple(find_language(cell).code for cell in cells)
    except UserError as error:
        raise UserError(f"glossary {path}, line {number}: {error}") from None
    for code in codes:
        if codes.count(code) > 1:
            raise UserError(f"glossary {path}, line {number}: '{code}' is there twice")
    if len(codes) == 1:
        raise UserError(f"glossary {path}, line {number}: has one language; it needs two")
    return codes


def _row(
    path: str | Path, languages: tuple[str, ...], number: int, cells: list[str]
) -> tuple[str, ...]:
    if len(cells) > len(languages):
        raise UserError(
            f"glossary {path}, line {number}: has {len(cells)} cells, the header {len(languages)}; "
            'a term with a comma goes in quotes: "gears, used"'
        )
    return (*cells, *[""] * (len(languages) - len(cells)))


class _Finder:
    """Finds the terms of one language in a text.

    Args:
        pairs: Terms and their translations.
    """

    def __init__(self, pairs: Mapping[str, str]) -> None:
        self._pairs = pairs
        self._terms = {_joined(term): term for term in pairs}
        self._folded = {_joined(term).casefold(): term for term in pairs}
        longest = sorted(pairs, key=len, reverse=True)  # the first alternative that matches wins
        self._pattern = regex.compile("|".join(map(_as_pattern, longest)) or r"(?!)")

    def terms(self, text: str) -> tuple[tuple[str, str], ...]:
        """The terms in a text with their translations, longest first."""
        found: set[str] = set()
        for match in self._pattern.finditer(text):
            joined = _joined(match.group())
            # None where only the pattern, not `casefold`, matches: for Turkish `İ` and `i`.
            term = self._terms.get(joined) or self._folded.get(joined.casefold())
            if term is not None:
                found.add(term)
        longest = sorted(found, key=lambda term: (-len(term), term))
        return tuple((term, self._pairs[term]) for term in longest[:MOST_TERMS])


def _as_pattern(term: str) -> str:
    escaped = r"\s+".join(regex.escape(word) for word in term.split())
    has_inner_capital = any(word[1:] != word[1:].lower() for word in term.split())
    if not has_inner_capital:
        escaped = f"(?i:{escaped})"
    before = "" if regex.match(rf"{UNSPACED}|\W", term) else r"(?<!\w)"
    after = "" if regex.search(rf"(?:{UNSPACED}|\W)$", term) else r"(?!\w)"
    return before + escaped + after


def _joined(term: str) -> str:
    """A term with single spaces between its words."""
    return " ".join(term.split())
