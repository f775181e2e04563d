"""Finds the passages of a document: the parts that are text. All else is never sent to a model.

Not text are: white space around passages, front matter, fenced and indented code, the marks of
headings, lists, quotes and tables, rules, link definitions, HTML markup (`tags`), and lines with
nothing to translate (URLs, numbers, emoji, placeholders). Elements within a line (`inline`) stay in
their passage, unless they are too long for a model.

markdown-it parses Markdown, but reports only the lines of a block; its text is then searched for in
these lines. Plain text is Markdown of nothing but paragraphs. An indented block that reads as
sentences is text, since plain texts have indented paragraphs.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from jobs.translation.documents import inline, tags
from jobs.translation.documents.passages import Kind, Passage, Span

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|\Z)")
FRONT_MATTER = re.compile(
    r"(?P<fence>---|\+\+\+)[ \t]*\r?\n(?P<body>(?:(?!(?P=fence)).*\n)+?)"
    r"(?P=fence)[ \t]*(?:\r?\n|\Z)"
)
NO_SETTING = re.compile(r"^(?![ \t#-]|\s*$|\[|[\w.'\"-]+\s*[:=])", re.M)
LINE_MARKS = re.compile(r"\[[ xX]\]\s+|\[\^[^\]\s]{1,60}\]:\s+")
"""At the start of a block's text, before its words: a task's checkbox, a footnote's name."""
DEFINITION = re.compile(
    r"\[(?!\^)[^\]\n]{1,300}\]:\s*(?:<[^<>\n]*>|(?=\S*(?:[/#:@]|\.\w))\S++)"
    r"""(?:\s+(?:"[^"]*"|'[^']*'|\([^()]*\)))?\s*"""
)
SENTENCE_END = re.compile(r"""[.!?…。！？।؟።][\s"'”’»)\]]*\Z""")
CODE_MARKS = re.compile(r"[{}<>=;$\\|#_~^@*/`\[\]]|\(\)|::")
PROSE_WORDS = 4
"""An indented block with fewer words than this is code."""


def find_passages(text: str) -> list[Passage]:
    """The passages of a document in order; what is between them is kept as it is."""
    start = int(text.startswith("\ufeff"))
    matter = FRONT_MATTER.match(text, start)
    if matter is not None and not NO_SETTING.search(matter["body"]):
        start = matter.end()
    if tags.is_html(text[start:]):
        return [*_of_html(text, start, len(text))]
    return [*_of_markdown(text, start)]


def _of_html(text: str, start: int, end: int) -> Iterator[Passage]:
    for run in tags.text_runs(text, start, end):
        lines = (match.span() for match in LINE.finditer(text, *run))
        yield from _passages(text, Kind.NESTED, lines)


def _of_markdown(text: str, start: int) -> Iterator[Passage]:
    body = text[start:]
    lines = [(start + match.start(), start + match.end()) for match in LINE.finditer(body)]
    tokens = _parser().parse(body)
    row_ends: dict[int, int] = {}  # line of a table: where its last cell ended
    in_table = False
    for number, token in enumerate(tokens):
        if token.type in ("table_open", "table_close"):
            in_table = token.type == "table_open"
        elif token.type == "html_block":
            first, last = _line_range(token)
            yield from _of_html(text, lines[first][0], lines[last - 1][1])
        elif token.type == "code_block" and _is_prose(token.content):
            yield from _passages(text, Kind.PARAGRAPH, lines[slice(*_line_range(token))])
        elif token.type == "inline" and in_table:
            yield from _cell(text, token, lines, row_ends)
        elif token.type == "inline":
            opening = tokens[number - 1]
            kind = Kind.PARAGRAPH if opening.level == 0 else Kind.NESTED
            kind = Kind.LINE if opening.type == "heading_open" else kind
            yield from _passages(text, kind, _content_lines(text, token, lines))


@functools.cache
def _parser() -> MarkdownIt:
    """A parser of blocks only. Link definitions stay paragraphs, so that `[Anna]: Hello` is one."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark").enable("table").disable("reference")
    parser.core.ruler.enableOnly(["normalize", "block"])
    return parser


def _line_range(token: Token) -> tuple[int, int]:
    assert token.map is not None, f"markdown-it gives no lines for {token.type}"
    return token.map[0], token.map[1]


def _is_prose(block: str) -> bool:
    """Whether an indented block reads as sentences rather than as code."""
    paragraphs = re.split(r"\n\s*\n", block.strip())
    enough = len(block.split()) >= PROSE_WORDS
    ends = all(SENTENCE_END.search(paragraph) for paragraph in paragraphs)
    return enough and ends and not CODE_MARKS.search(inline.without_elements(block))


def _content_lines(
    text: str, token: Token, lines: list[tuple[int, int]]
) -> Iterator[tuple[int, int]]:
    """The spans of a block's lines of text in the document."""
    number, last = _line_range(token)
    for content in map(str.strip, token.content.split("\n")):
        while content and number < last:
            start, end = lines[number]
            number += 1
            at = text[start:end].replace("\0", "\ufffd").rfind(content)
            if at >= 0:
                yield start + at, start + at + len(content)
                break
        else:
            assert not content, "the content of a block is in its lines"


def _cell(
    text: str, token: Token, lines: list[tuple[int, int]], row_ends: dict[int, int]
) -> Iterator[Passage]:
    """The passage of a table's cell, which is searched for after the last cell of its row."""
    number, _ = _line_range(token)
    start, end = lines[number]
    # markdown-it removes the backslash of `\|`, and replaces NUL by U+FFFD.
    content = re.escape(token.content).replace(r"\|", r"\\?\|").replace("\ufffd", "[\0\ufffd]")
    found = re.compile(content).search(text, row_ends.get(number, start), end)
    assert found is not None, "the content of a cell is in its line"
    row_ends[number] = found.end()
    yield from _passages(text, Kind.CELL, [found.span()])


def _passages(text: str, kind: Kind, lines: Iterable[tuple[int, int]]) -> Iterator[Passage]:
    """Passages of these lines. Lines with nothing to translate and oversized elements end one."""
    spans: list[Span] = []
    for start, end in lines:
        for first, last in _between_oversized(text, start, end):
            span = _text_span(text, first, last)
            if span is not None:
                spans.append(span)
            if spans and (span is None or last < end):
                yield Passage(text, kind, tuple(spans))
                spans = []
    if spans:
        yield Passage(text, kind, tuple(spans))


def _between_oversized(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The parts of a line before, between and after oversized elements.

    A definition is not divided: what is before the link would no longer be known as one.
    """
    at, line = start, text[start:end]
    oversized = inline.oversized_spans(line)
    if oversized and DEFINITION.fullmatch(line.strip()):
        oversized = []
    for first, last in oversized:
        yield at, start + first
        at = start + last
    yield at, end


def _text_span(text: str, start: int, end: int) -> Span | None:
    """A line without white space around it and marks before it; None where it has no words."""
    line = text[start:end]
    start += len(line) - len(line.lstrip())
    marks = LINE_MARKS.match(text, start, end)
    if marks is not None:
        start = marks.end()
    content = text[start:end].strip()
    if not inline.has_words(content) or DEFINITION.fullmatch(content):
        return None
    return Span(start, start + len(content))
