"""Which parts of HTML are text.

Phrasing tags (`<b>`, `<a>`, `<code>`, `<br>`) stay in their sentence. All other tags, comments and
declarations separate texts and are kept as they are, and so is the content of scripts, styles and
preformatted text. A comment or a script that is never closed reaches to the end, as in a browser.
"""

from __future__ import annotations

import re

_PHRASING = (
    "a abbr b bdi bdo br cite code data del dfn em font i img ins kbd label mark q s samp small "
    "span strike strong sub sup time tt u var wbr"
)
PHRASING = frozenset(_PHRASING.split())
"""Tags that stand within a sentence; most of what the HTML standard calls phrasing content."""
VERBATIM = frozenset(["script", "style", "pre", "textarea", "svg", "math", "template", "xmp"])

OPENING = re.compile(r"<!--|<!\[CDATA\[|<[!?]|</?([A-Za-z][\w:.-]*)")
TAG_END = re.compile(r"""(?:[^<>"']|"[^"<]*+"|'[^'<]*+')*+>""")
FIRST_TAG = re.compile(
    r"(?:\s|<!--(?>.*?-->)|<\?[^>]*>)*+<(!doctype\s+html|[A-Za-z][\w:-]*)", re.I | re.S
)


def is_html(text: str) -> bool:
    """Whether the whole text is HTML: its first tag is not a phrasing tag, and a tag ends it."""
    first = FIRST_TAG.match(text[:10_000])
    if first is None or not text.rstrip().endswith(">"):
        return False
    name = first[1].lower()
    return name.startswith("!doctype") or (name not in PHRASING and f"</{name}" in text.lower())


def text_runs(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """The spans (start, end) of text between tags that separate texts.

    Args:
        text: The document.
        start: Where to begin.
        end: Where to stop.
    """
    runs, run_start, at = [], start, start
    while (opening := OPENING.search(text, at, end)) is not None:
        stop = _markup_end(text, opening, end)
        if stop is None:
            at = opening.end()
            continue
        runs.append((run_start, opening.start()))
        run_start = at = stop
    runs.append((run_start, end))
    return [(first, last) for first, last in runs if first < last]


def _markup_end(text: str, opening: re.Match[str], end: int) -> int | None:
    """Where the markup that opens here ends; None where it belongs to a sentence."""
    closings = {"<!--": "-->", "<![CDATA[": "]]>", "<!": ">", "<?": ">"}
    if opening[1] is None:
        closing = closings[opening[0]]
        at = text.find(closing, opening.end(), end)
        return end if at < 0 else at + len(closing)
    name = opening[1].lower()
    tag = TAG_END.match(text, opening.end(), end)
    if name in PHRASING or tag is None:
        return None
    if name in VERBATIM and not opening[0].startswith("</"):
        closed = re.compile(rf"</{name}\s*>", re.I).search(text, tag.end(), end)
        return closed.end() if closed else end
    return tag.end()
