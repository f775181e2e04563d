"""Finds a document's passages: what of it is text, and what is frame and never sent to a model.

Decides what Markdown and HTML mean for a translation. Frame are: white space around passages,
front matter, fenced and indented code, marks of headings, lists, quotes and tables, rules,
definitions of links, HTML as `tags` has it, and lines with nothing to translate (URLs, numbers,
emoji, placeholders). What stands within a line (`inline`) stays in its passage, unless it is too
long to be read.

The structure of Markdown is markdown-it's; it says in which lines the text of a block is, and the
text is then found in the line. Plain text is Markdown of nothing but paragraphs; an indented block
that reads as sentences is text, for the sake of plain texts with indented paragraphs.
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
"""Within a block's text, before its words: a task's box, a footnote's name."""
DEFINITION = re.compile(
    r"\[(?!\^)[^\]\n]{1,300}\]:\s*(?:<[^<>\n]*>|\S*(?:[/#:@]|\.\w)\S*)"
    r"""(?:\s+(?:"[^"]*"|'[^']*'|\([^()]*\)))?\s*"""
)
SENTENCE_END = re.compile(r"""[.!?…。！？।؟።][\s"'”’»)\]]*\Z""")
CODE_MARKS = re.compile(r"[{}<>=;$\\|#_~^@*/`\[\]]|\(\)|::")
PROSE_WORDS = 4
"""An indented block of fewer words is code."""


def find_passages(text: str) -> list[Passage]:
    """The passages of a document in order; everything between them is frame."""
    start = int(text.startswith("\ufeff"))
    matter = FRONT_MATTER.match(text, start)
    if matter is not None and not NO_SETTING.search(matter["body"]):
        start = matter.end()
    if tags.is_html(text[start:]):
        return [*_of_html(text, start, len(text))]
    return [*_of_markdown(text, start)]


def _of_html(text: str, start: int, end: int) -> Iterator[Passage]:
    for one, other in tags.text_runs(text, start, end):
        lines = (match.span() for match in LINE.finditer(text, one, other))
        yield from _split(text, Kind.NESTED, lines)


def _of_markdown(text: str, start: int) -> Iterator[Passage]:
    body = text[start:]
    lines = [(start + match.start(), start + match.end()) for match in LINE.finditer(body)]
    tokens = _parser().parse(body)
    rows: dict[int, int] = {}  # line: where its last cell ended
    in_table = False
    for number, token in enumerate(tokens):
        if token.type in ("table_open", "table_close"):
            in_table = token.type == "table_open"
        elif token.type == "html_block":
            first, last = _line_range(token)
            yield from _of_html(text, lines[first][0], lines[last - 1][1])
        elif token.type == "code_block" and _is_prose(token.content):
            yield from _split(text, Kind.PARAGRAPH, lines[slice(*_line_range(token))])
        elif token.type == "inline" and in_table:
            yield from _cell(text, token, lines, rows)
        elif token.type == "inline":
            kind = _kind(tokens[number - 1])
            yield from _split(text, kind, _found_lines(text, token, lines))


@functools.cache
def _parser() -> MarkdownIt:
    """Blocks only; link definitions stay paragraphs, so that `[Anna]: Hello` is one."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark").enable("table").disable("reference")
    parser.core.ruler.enableOnly(["normalize", "block"])
    return parser


def _line_range(token: Token) -> tuple[int, int]:
    assert token.map is not None, f"markdown-it says no lines for {token.type}"
    return token.map[0], token.map[1]


def _kind(opening: Token) -> Kind:
    if opening.type == "heading_open":
        return Kind.LINE
    return Kind.PARAGRAPH if opening.level == 0 else Kind.NESTED


def _is_prose(block: str) -> bool:
    """Whether an indented block reads as sentences rather than as code."""
    paragraphs = re.split(r"\n\s*\n", block.strip())
    enough = len(block.split()) >= PROSE_WORDS
    ends = all(SENTENCE_END.search(paragraph) for paragraph in paragraphs)
    return enough and ends and not CODE_MARKS.search(inline.words(block))


def _found_lines(
    text: str, token: Token, lines: list[tuple[int, int]]
) -> Iterator[tuple[int, int]]:
    """Where the lines of a block's content stand in the document."""
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
    text: str, token: Token, lines: list[tuple[int, int]], rows: dict[int, int]
) -> Iterator[Passage]:
    number, _ = _line_range(token)
    start, end = lines[number]
    # markdown-it takes the backslash from `\|`, and puts U+FFFD in place of NUL.
    content = re.escape(token.content).replace(r"\|", r"\\?\|").replace("\ufffd", "[\0\ufffd]")
    found = re.compile(content).search(text, rows.get(number, start), end)
    assert found is not None, "the content of a cell is in its line"
    rows[number] = found.end()
    yield from _split(text, Kind.CELL, [found.span()])


def _split(text: str, kind: Kind, lines: Iterable[tuple[int, int]]) -> Iterator[Passage]:
    """Passages of these lines: cut at lines with nothing to translate, and at what is too long."""
    spans: list[Span] = []
    for start, end in lines:
        for one, other in _readable(text, start, end):
            span = _text_of(text, one, other)
            if span is not None:
                spans.append(span)
            if spans and (span is None or other < end):
                yield Passage(text, kind, tuple(spans))
                spans = []
    if spans:
        yield Passage(text, kind, tuple(spans))


def _readable(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The parts of a line before, between and after what is too long to be read."""
    at = start
    for one, other in inline.long_parts(text[start:end]):
        yield at, start + one
        at = start + other
    yield at, end


def _text_of(text: str, start: int, end: int) -> Span | None:
    """A line without white space around it and marks before it; None if there are no words."""
    line = text[start:end]
    start += len(line) - len(line.lstrip())
    marks = LINE_MARKS.match(text, start, end)
    if marks is not None:
        start = marks.end()
    content = text[start:end].strip()
    if not inline.has_words(content) or DEFINITION.fullmatch(content):
        return None
    return Span(start, start + len(content))
