"""HTML: which parts of it are text between tags.

Decides that inline elements (`<b>`, `<a>`, `<code>`, `<br>`) stay in the sentence they are in, that
all other tags, comments and declarations are kept as they are, attributes included, and that the
content of scripts, styles and preformatted text is no text. What is never closed reaches to the
end, as in a browser.
"""

from __future__ import annotations

import functools
import re

_PHRASING = (
    "a abbr b bdi bdo br cite code data del dfn em font i img ins kbd label mark q s samp small "
    "span strike strong sub sup time tt u var wbr"
)
INLINE_TAGS = frozenset(_PHRASING.split())
VERBATIM = frozenset(["script", "style", "pre", "textarea", "svg", "math", "template", "xmp"])

OPENING = re.compile(r"<!--|<!\[CDATA\[|<[!?]|</?([A-Za-z][\w:.-]*)")
TAG_END = re.compile(r"""(?:[^<>"']|"[^"<]*+"|'[^'<]*+')*+>""")
FIRST_TAG = re.compile(
    r"(?:\s|<!--(?>.*?-->)|<\?[^>]*>)*+<(!doctype\s+html|[A-Za-z][\w:-]*)", re.I | re.S
)


def is_html(text: str) -> bool:
    """Whether a whole document is HTML: it begins with a block's tag and ends with a tag."""
    first = FIRST_TAG.match(text[:10_000])
    if first is None or not text.rstrip().endswith(">"):
        return False
    name = first[1].lower()
    return name.startswith("!doctype") or (name not in INLINE_TAGS and f"</{name}" in text.lower())


def text_runs(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """The parts (start, end) of text[start:end] that stand between tags of blocks."""
    runs, run_start, at = [], start, start
    while (opening := OPENING.search(text, at, end)) is not None:
        stop = _markup_end(text, opening, end)
        if stop is None:
            at = opening.end()
            continue
        runs.append((run_start, opening.start()))
        run_start = at = stop
    runs.append((run_start, end))
    return [(one, other) for one, other in runs if one < other]


def _markup_end(text: str, opening: re.Match[str], end: int) -> int | None:
    """Where what opens here ends; None where it belongs to a sentence."""
    closings = {"<!--": "-->", "<![CDATA[": "]]>", "<!": ">", "<?": ">"}
    if opening[1] is None:
        closing = closings[opening[0]]
        at = text.find(closing, opening.end(), end)
        return end if at < 0 else at + len(closing)
    name = opening[1].lower()
    tag = TAG_END.match(text, opening.end(), end)
    if name in INLINE_TAGS or tag is None:
        return None
    if name in VERBATIM and not opening[0].startswith("</"):
        closed = _closing(name).search(text, tag.end(), end)
        return closed.end() if closed else end
    return tag.end()


@functools.cache
def _closing(name: str) -> re.Pattern[str]:
    return re.compile(rf"</{name}\s*>", re.I)
