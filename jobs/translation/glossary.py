"""Terms with a fixed translation: read from a CSV file, and found in a text.

The file is as `language_table` says, with a row for each term. A term is found as whole words where
its script has spaces between words, else anywhere; in any case of letters, unless it has a capital
inside of a word (`SPAM` does not match `spam`). Where several terms begin at one place, the longest
is found. What is only a part of a placeholder, a link, code or another inline element, which a
translation keeps as it is, is no term: `user` in `{user}`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import regex

from jobs.translation.documents.inline import lies_inside_one
from jobs.translation.language_table import LanguageTable, read_header, read_lines, read_row
from pipeline.contract.errors import UserError

MOST_TERMS = 40
"""Most terms of one text: more would leave no room for the text itself."""
UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"


class Glossary(LanguageTable):
    """The terms of a glossary."""

    def terms(self, text: str, source: str, target: str) -> tuple[tuple[str, str], ...]:
        """The terms that occur in a text, each with its translation; longest first.

        If a term is there twice, the first translation holds.

        Args:
            text: A text in the source language.
            source: Code of its language; see `pairs` for the column that is used.
            target: Code of the language to translate to.
        """
        finder = self._finders.get((source, target))
        if finder is None:
            pairs = dict(reversed(self.pairs(source, target)))
            finder = self._finders[source, target] = _Finder(pairs)
        return finder.terms(text)

    @functools.cached_property
    def _finders(self) -> dict[tuple[str, str], _Finder]:
        return {}


def read_glossary(
    path: str | Path, source: str | None = None, targets: Sequence[str] = ()
) -> Glossary:
    """Read a glossary from a CSV file.

    Args:
        path: The file.
        source: Code of the language that all texts have; None if it is not known beforehand.
        targets: Codes of the languages to translate to.

    Raises:
        UserError: The file cannot be read, is not in the format that the module describes, or has
            no column of a language that is translated.
    """
    lines = read_lines("glossary", path)
    languages = read_header("glossary", path, lines[0])
    rows = (read_row("glossary", path, len(languages), line) for line in lines[1:])
    glossary = Glossary(languages, tuple(rows))
    missing = _missing(glossary, source, targets)
    if missing:
        raise UserError(
            f"glossary {path}: has no column for {missing}; its columns are {', '.join(languages)}"
        )
    return glossary


def _missing(glossary: Glossary, source: str | None, targets: Sequence[str]) -> str:
    """The languages without a column of which no term can apply; empty if one can."""
    own = None if source is None else glossary.source_column(source)
    if source is not None and own is None:
        return source
    columns = {glossary.column(code) for code in targets} - {None}
    if not targets or columns - {own}:
        return ""
    besides = "" if own not in columns else f" besides the column of {source}"
    return ", ".join(targets) + besides


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
        matches = [*self._pattern.finditer(text)]
        if not matches:  # of most texts; the search for elements takes longer
            return ()
        lies_inside = lies_inside_one(text)
        found: set[str] = set()
        for match in matches:
            if lies_inside(*match.span()):
                continue
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
