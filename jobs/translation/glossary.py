"""Terms that are to be translated in one way: read from a CSV file, and found in a text.

Decides what a glossary file is: UTF-8, a header of language codes, a row for each term, empty cells
where a language has none.

    en,de,fr
    gear box,Getriebe,boîte de vitesses
    SPAM,SPAM,

And what is found: a term as whole words where the script has spaces between words, anywhere where
it has not; in small or capital letters, unless the term has a capital within a word (`SPAM` is not
`spam`). Of terms within one another the longest is found.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import regex

from jobs.options.languages import find_language
from pipeline.contract.errors import UserError

MOST_TERMS = 40
"""Of one text: more would leave no room for the text itself."""
UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"


@dataclass(frozen=True)
class Glossary:
    """The terms of a glossary.

    Attributes:
        languages: Codes of its columns.
        rows: Each term in these languages, in order; empty where a language has none.
    """

    languages: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @classmethod
    def from_json(cls, value: Mapping[str, Sequence[object]]) -> Glossary:
        """The glossary that `asdict` gave these lists of."""
        rows = tuple(tuple(map(str, row)) for row in value["rows"] if isinstance(row, list | tuple))
        return cls(tuple(map(str, value["languages"])), rows)

    @functools.cached_property
    def identity(self) -> str:
        """Another glossary has another one."""
        content = json.dumps([self.languages, self.rows], ensure_ascii=False)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def terms(self, text: str, source: str, target: str) -> tuple[tuple[str, str], ...]:
        """The terms that occur in a text, each with its translation; longest first.

        Args:
            text: In the source language.
            source: Its code; a column `de` serves `de-AT` too where there is none of its own.
            target: Code of the language it goes to.
        """
        finder = self._finders.get((source, target))
        if finder is None:
            finder = self._finders[source, target] = _Finder(self._pairs(source, target))
        return finder.terms(text)

    @functools.cached_property
    def _finders(self) -> dict[tuple[str, str], _Finder]:
        return {}

    def _pairs(self, source: str, target: str) -> dict[str, str]:
        """Terms and their translations; of a term that is there twice, the first."""
        one, other = self.column(source), self.column(target)
        if one is None or other is None:
            return {}
        rows = reversed(self.rows)
        return {row[one]: row[other] for row in rows if row[one] and row[other]}

    def column(self, code: str) -> int | None:
        """The column of a language: its own, that of the language without region, or none."""
        for wanted in (code, code.split("-", maxsplit=1)[0]):
            if wanted in self.languages:
                return self.languages.index(wanted)
        return None


def read_glossary(path: str | Path) -> Glossary:
    """Read a glossary from a CSV file.

    Raises:
        UserError: The file cannot be read, or a line of it is not as the module says.
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
        longest = sorted(pairs, key=len, reverse=True)  # where several begin, the first has it
        self._pattern = regex.compile("|".join(map(_as_pattern, longest)) or r"(?!)")

    def terms(self, text: str) -> tuple[tuple[str, str], ...]:
        """Those in a text with their translations, longest first."""
        matches = (self._term(match.group()) for match in self._pattern.finditer(text))
        found = {term for term in matches if term is not None}
        longest = sorted(found, key=lambda term: (-len(term), term))
        return tuple((term, self._pairs[term]) for term in longest[:MOST_TERMS])

    def _term(self, found: str) -> str | None:
        """None where only the pattern takes them for the same, as it does Turkish `İ` and `i`."""
        joined = _joined(found)
        return self._terms.get(joined) or self._folded.get(joined.casefold())


def _as_pattern(term: str) -> str:
    escaped = r"\s+".join(regex.escape(word) for word in term.split())
    if not _has_inner_capital(term):
        escaped = f"(?i:{escaped})"
    before = "" if regex.match(rf"{UNSPACED}|\W", term) else r"(?<!\w)"
    after = "" if regex.search(rf"(?:{UNSPACED}|\W)$", term) else r"(?!\w)"
    return before + escaped + after


def _has_inner_capital(term: str) -> bool:
    return any(word[1:] != word[1:].lower() for word in term.split())


def _joined(term: str) -> str:
    return " ".join(term.split())
