"""Inline elements: code, URLs, tags, placeholders, emoji and numbers, the one list of patterns.

A translation should keep them as they are. A text is not cut inside of one, its language is
detected without them, and an answer is checked for them. Every pattern is bounded, so that no text
takes more than linear time.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING

import regex

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LONGEST = 300
"""Most characters of an element or a link that is kept in one piece."""

_NO_URL = (
    r"""\s<>"'`|\\^{}（）「」『』【】《》〈〉，。、！？；：“”«»"""
    r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}"
)

PATTERNS = {
    "code": r"(?<!`)(?P<ticks>`{1,3})(?!`)(?:[^`\n]|(?!(?P=ticks)(?!`))`){1,2000}+(?P=ticks)(?!`)"
    r"|\$\$[^$]{1,2000}\$\$|\\\([^\n]{1,500}?\\\)",
    "url": r"(?<=\]\()(?:<[^<>\n]{1,1000}>|[^\s()<>]++(?:\([^\s()]{0,200}\)[^\s()<>]{0,500})?)"
    rf"|(?<![\w/])(?:(?:https?|ftps?|wss?|file|s3|gs|hf|git|ssh)://|www\.|mailto:|data:\w+/)"
    rf"[^{_NO_URL}]+(?<![.,;:!?)\]*_~])"
    r"|(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+",
    "tag": r"""</?[A-Za-z][\w:.-]*+(?:[\s/](?:[^<>"']|"[^"<]*+"|'[^'<]*+')*+)?>"""
    r"|<!--.{0,2000}?-->",
    "entity": r"&(?:[A-Za-z]\w{1,30}|\#\d{1,7}|\#[xX][0-9A-Fa-f]{1,6});",
    "placeholder": r"\{\{[^{}\n]{0,100}\}\}|\{%[^\n]{0,200}?%\}|[$\#]?\{\s*[\w$.\[\]:!-]{0,60}\s*\}"
    r"|(?<!\d)%(?:\([\w.]{1,60}\))?(?:\d+\$)?[-+\#0]*(?:\d+|\*)?(?:\.\d+|\.\*)?"
    r"(?:hh?|ll?|[zjtL])?[diouxXeEfFgGcsrap@](?![a-z])"
    r"|%[A-Za-z_][\w.]{0,60}%|(?<![\w$])\$[A-Za-z_]\w{0,60}|</?\d{1,3}\s?/?>|\[\[\w{1,60}\]\]",
    "emoji": r"\p{Regional_Indicator}{2}|[0-9\#*]\uFE0F?\u20E3"
    r"|(?![©®™〰〽㊗㊙])\p{Extended_Pictographic}(?:\uFE0F|\p{Emoji_Modifier})?"
    r"(?:\u200D\p{Extended_Pictographic}(?:\uFE0F|\p{Emoji_Modifier})?)*+[\U000E0020-\U000E007F]*+",
    "number": r"(?<!\p{Nd})\p{Nd}{1,3}(?:[ \u00a0\u202f]\p{Nd}{3})+(?!\p{Nd})(?:[.,\u066b]\p{Nd}+)?"
    r"|\p{Nd}+(?:[.,'’\u066b\u066c]\p{Nd}+)*+",
}
"""Where several match at one place, the first wins."""

LETTERS = r"[[\p{L}\p{M}]--\u2139]"
"""Of words; U+2139 is a letter and an emoji."""
PROSE = (
    rf"(?<!\]\()(?:{LETTERS}{{1,30}}+(?:['’-]{LETTERS}{{1,30}}+){{0,5}}+(?:[.:](?=\s|\Z)|(?![\w.+@:/-]))"
    r"|[\s,;!?)\"“”»。，、！？；：」』》]++)++"
)
"""What holds no element: words of letters, and what stands between them. A word is none that may
begin a URL or an e-mail address. Passed over at once, most texts take a fifth of the time."""
INLINE = regex.compile(
    "|".join(f"(?P<{kind}>{each})" for kind, each in {"prose": PROSE, **PATTERNS}.items()),
    regex.DOTALL | regex.VERSION1,
)
WHOLE = regex.compile(
    rf"!?\[[^\[\]\n]{{0,{LONGEST}}}\](?:\([^()\n]{{0,{LONGEST}}}\)|\[[^\[\]\n]{{0,100}}\])"
    rf"|<(?P<name>[A-Za-z]\w*)\b[^<>]{{0,{LONGEST}}}>[^<>]{{0,{LONGEST}}}</(?P=name)>"
    rf"|(?P<marks>\*\*|__|~~)[^*_~\n]{{1,{LONGEST}}}(?P=marks)"
    r"|\\[^\w\s]"
)
"""Links, text between two marks, and a mark after a backslash: these are not cut either."""
SIGNS_OF_OVERSIZED = (
    re.compile(r"[`$\\<{]"),
    re.compile(r"\d[ \u00a0\u202f]\d"),
    re.compile(rf"(?<![\S\x1c-\x1f])[\S\x1c-\x1f]{{{LONGEST},}}"),  # to `regex` these are no space
)
"""All elements of more than `LONGEST` characters have one of these: only code, tags, placeholders
and numbers may hold a space. Found by `re`, they take a fifth of the time of `INLINE`."""
IMAGE = regex.compile(r"!\[[^\[\]\n]*\]\(\Z")
LETTER = regex.compile(r"\p{L}")
SURROGATE = regex.compile("[\ud800-\udfff]")
"""Half of a surrogate pair, which libraries written in Rust or C refuse."""
ELEMENT_START = regex.compile(r"[`$\\<\[\](){}&%]")
PLAIN_WORD = regex.compile(r"(?<!\S)\p{L}[\p{L}\p{M}]*+(?=[.,;!?]?(?:\s|\Z))")
"""A word that is not part of an element, in a text without any `ELEMENT_START`."""


def elements(text: str) -> tuple[list[tuple[str, str]], str]:
    """The inline elements of a text, as (kind, text); and it with a space in place of each one."""
    found = [*_matches(text)]
    begins = [0, *(match.end() for match in found)]
    ends = [*(match.start() for match in found), len(text)]
    rest = (text[begin:end] for begin, end in zip(begins, ends, strict=True))
    return [(match.lastgroup, match.group()) for match in found], " ".join(rest)


def _matches(text: str) -> Iterator[regex.Match[str]]:
    return (match for match in INLINE.finditer(text) if match.lastgroup != "prose")


def lies_inside_one(text: str) -> Callable[[int, int], bool]:
    """Whether characters `start` to `end` of a text are a part of an inline element, and not all.

    Args:
        text: A text; it is searched once, whatever is asked of it.
    """
    spans = [match.span() for match in _matches(text)]  # in order, and none overlap

    def lies_inside(start: int, end: int) -> bool:
        place = bisect_right(spans, start, key=itemgetter(0)) - 1
        if place < 0:
            return False
        begins, ends = spans[place]
        return end <= ends and (start, end) != (begins, ends)

    return lies_inside


def uncut_spans(text: str) -> list[tuple[int, int]]:
    """The spans (start, end) that should not be cut, in order; none overlap."""
    spans = [match.span() for match in chain(_matches(text), WHOLE.finditer(text))]
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start < joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def oversized_spans(text: str) -> list[tuple[int, int]]:
    """The spans (start, end) of elements too long for a model, such as a data URL, in order.

    A long link's span is its target with the parentheses, a long Markdown image's all of it.
    """
    if len(text) <= LONGEST or not any(sign.search(text) for sign in SIGNS_OF_OVERSIZED):
        return []
    spans = (match.span() for match in _matches(text))
    return [_with_link(text, start, end) for start, end in spans if end - start > LONGEST]


def _with_link(text: str, start: int, end: int) -> tuple[int, int]:
    if text[start - 2 : start] != "](" or text[end : end + 1] != ")":
        return start, end
    image = IMAGE.search(text, max(0, start - LONGEST), start)
    return (image.start() if image else start - 2), end + 1


def without_elements(text: str) -> str:
    """The text with a space in place of each inline element."""
    return elements(text)[1]


def has_words(text: str) -> bool:
    """Whether there is anything to translate: a letter outside of inline elements."""
    if ELEMENT_START.search(text) is None and PLAIN_WORD.search(text) is not None:
        return True  # true of nearly every text, and much faster to find out
    return LETTER.search(text) is not None and LETTER.search(without_elements(text)) is not None
