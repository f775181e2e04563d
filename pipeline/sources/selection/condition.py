"""Decides what a condition on rows may say: the language of `--where`, which is that of SQL.

    lang = 'en' and width > 256
    (lang in ('en', 'de') or lang is null) and not is_nsfw
    caption like '%cat%' and starts_with(path, 'train/')

A text stands in either kind of quotes. A column that is no plain name, or has the name of a word of
the language, stands in backticks; a field of a struct follows its column and a dot. `like` knows
`%` (any text) and `_` (any character). Words of the language may be written in capitals.
"""

from __future__ import annotations

import functools
from decimal import Decimal
from typing import TYPE_CHECKING

from pipeline.contract.errors import UserError

if TYPE_CHECKING:
    from lark import Lark, Token, Tree

GRAMMAR = r"""
?start: either
?either: both | either _OR both -> any_of
?both: one | both _AND one -> all_of
?one: test | NOT one -> opposite
?test: "(" either ")"
    | operand OPERATOR operand -> compared
    | column [NOT] _IN "(" value ("," value)* ")" -> listed
    | column _IS [NOT] _NULL -> null
    | column [NOT] _LIKE TEXT -> like
    | FUNCTION "(" column "," TEXT ")" -> called
    | column -> truth
?operand: column | value
column: NAME | QUOTED
value: NUMBER | TEXT | TRUE | FALSE

FUNCTION.3: /(starts_with|ends_with|contains)(?=\s*\()/i
_OR.2: /or\b/i
_AND.2: /and\b/i
NOT.2: /not\b/i
_IN.2: /in\b/i
_IS.2: /is\b/i
_NULL.2: /null\b/i
_LIKE.2: /like\b/i
TRUE.2: /true\b/i
FALSE.2: /false\b/i
OPERATOR: />=|<=|<>|!=|==|=|<|>/
NUMBER: /[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?/i
TEXT: /'(''|[^'])*'|"(""|[^"])*"/
NAME: /[^\W\d]\w*(\.[^\W\d]\w*)*/
QUOTED: /`[^`]+`/
%ignore /\s+/
"""
EXAMPLE = "write it like lang = 'en' and width > 256"
SHOWN = 30
"""Characters that are shown of what cannot be read."""


def parsed(text: str) -> Tree[Token]:
    """The tree of a condition, with the rules of `GRAMMAR`.

    Raises:
        UserError: It is not one; names the place.
    """
    from lark import UnexpectedInput

    try:
        return _parser().parse(text)
    except UnexpectedInput as error:
        at = -1 if getattr(error, "token", None) == "" else error.pos_in_stream or 0
        place = "at its end" if at < 0 else f'at "{text[at : at + SHOWN]}" (character {at + 1})'
        raise UserError(f"where: cannot be read {place}; {EXAMPLE}") from None


def name_of(token: Token) -> str:
    """The name of a column, without its backticks."""
    return str(token).strip("`") if token.type == "QUOTED" else str(token)


def value_of(token: Token) -> str | int | Decimal | bool:
    """What a value of a condition is: a text, a number or a truth. No number is rounded."""
    if token.type == "TEXT":
        quote = token[0]
        return str(token[1:-1]).replace(quote * 2, quote)
    if token.type == "NUMBER":
        try:
            return int(token)
        except ValueError:
            return Decimal(str(token))
    return token.type == "TRUE"


@functools.cache
def _parser() -> Lark:
    """Cached: making it takes longer than parsing. The import of lark is not for every run."""
    from lark import Lark

    return Lark(GRAMMAR, parser="lalr")
