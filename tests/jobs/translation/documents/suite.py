"""Documents that come back unchanged if every chunk is "translated" to itself.

Written for these tests: prose in 39 languages and 15 scripts, every kind of markup, and what people
put in a text column by mistake. Long ones are made of varied paragraphs.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from tests.jobs.translation.prose import PROSE

LONG = 200_000
"""Bytes."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A document.

    Attributes:
        name: For the test's name.
        language: Code of its language.
        text: The document.
        sent: Texts that must be in some chunk.
        frame: Texts that must be in none.
    """

    name: str
    language: str
    text: str
    sent: tuple[str, ...] = ()
    frame: tuple[str, ...] = ()


def _space(language: str) -> str:
    return "" if language.split("-", maxsplit=1)[0] in ("zh", "ja") else " "


def _long(language: str, *, size: int = LONG) -> str:
    """Paragraphs of varied length and order, of at least this many bytes."""
    rng = random.Random(language)
    paragraphs: list[str] = []
    written = 0
    while written < size:
        sentences = rng.choices(PROSE[language], k=rng.randint(1, 9))
        paragraph = _space(language).join(sentences)
        paragraphs.append(paragraph)
        written += len(paragraph.encode()) + 2
    return rng.choice(["\n\n", "\r\n\r\n"]).join(paragraphs)


def _prose() -> list[Sample]:
    return [
        Sample(name=f"prose-{code}", language=code, text=_space(code).join(sentences))
        for code, sentences in PROSE.items()
    ]


README = """---
title: "A day at the harbour"
tags: [fish, market]
---

# The *harbour* 🐟

[![Build](https://img.example.com/b.svg)](https://ci.example.com/run?x=1&y=2)
![Logo](logo.png "A gull")

Install it with `pip install harbour` and read [the guide](https://example.com/guide_(new)#start).
The second line has **bold words**, ~~old ones~~ and a hard break.\x20\x20
The third costs 1,234.50 € and holds {name}, %s, %(count)d, ${HOME} and {{ user.name }}.

## Usage ##

1. Open the *gate*.
2. Feed the gulls:
   - bread
   - [ ] fish, but only `small()` ones
   - [x] nothing else
3. Close the gate

* * *

> A quote of one line.
> > A quote in the quote,
> > with two lines.

```python
def feed(gull: str) -> None:
    print(f"Feeding {gull}")  # Do not translate this.
```

    indented_code = "stays"
    more_code(indented_code)

| Bird | How many \\| where | Price |
| :--- | :---: | ---: |
| gull | 12 \\| pier | 3.50 |
| `tern` | many | |
|  |  | https://example.com/x |

Setext heading
--------------

Text with a footnote[^1] and a [reference][ref].

[^1]: The footnote's own text.
[ref]: https://example.com/ref "Not translated"

<details open>
<summary>More to <b>see</b></summary>
Hidden words.
</details>

<!-- A comment for the authors. -->

https://example.com/alone
"""

HTML = """<!DOCTYPE html>
<html lang="en">
<head>
  <title>The harbour</title>
  <style>body { color: red; }</style>
  <script type="text/javascript">
    var greeting = "Hello there, do not translate";

    if (1 < 2) { document.write("<p>not text</p>"); }
  </script>
</head>
<body class="main" data-note='a > b'>
  <!-- a comment, kept -->
  <h1>Good morning</h1>

    <p>The <b>little</b> harbour <a href="https://example.com/a?b=1&amp;c=2">wakes up</a>,<br>
       long before the sun.</p>
  <ul>
    <li>bread</li><li>fish &amp; chips</li>
  </ul>
  <pre>
    kept   as   it   is
  </pre>
  <table><tr><td>12</td><td>gulls</td></tr></table>
  <img src="gull.png" alt="A gull">
</body>
</html>
"""

FRAGMENT = "<p>Hello <em>you</em>.</p>\r\n\r\n<div>How are you, {name}?</div>\n"

STRINGS = """greeting = Hello, %1$s! You have %2$d new messages.
Hello {name}, welcome to {{ site.title }}!
Run `make all` in $HOME/bin or %APPDATA%.
<0>Click</0> here to <1>go on</1>, {count, number} times.
Progress: 50% of %d files (%.2f MB), 100%% sure.
"""

MIXED = (
    "Plain start.\r\n\r\n\r\n   \tIndented by a tab, and long enough to be read as prose.\r\n"
    "Line with trailing spaces   \r\n\r\n \r\n\x0cNext page.\u2028Soft line.\x85Odd line.\r\n\r\n"
)
RTL = (
    "\u200fמחיר: 1,234.5 ש״ח (כולל VAT) — ראה https://example.co.il/a?b=1.\u200e\n\n"
    "\u202bطلب رقم {order_id}: ٣ قطع، ١٬٢٣٤٫٥ دينار.\u202c 😀\n"
)
EMOJI_TEXT = "Family 👨‍👩‍👧‍👦 at the beach 🏖️ in 🇬🇷, thumbs up 👍🏽, keycap 1️⃣, flag 🏴󠁧󠁢󠁳󠁣󠁴󠁿.\n"
DIALOGUE = "“Who is there?”\n“Only me.”\n\n“Come in, then!”\n\n\n— He came in.\n"
CODE_ONLY = "```sh\necho 'Hello there'\n```\n\n    more code here()\n"
LOG = "".join(
    f"2026-01-{day:02d} 12:00:0{day % 10} WARN [gull-{day}] Somebody took fish number {day * 7}\n"
    for day in range(1, 29)
)
CRLF_LIST = "- one thing\r\n- another thing\r\n\r\n  with a second paragraph\r\n- a third\r\n"
QUOTE_MAIL = (
    "> On Monday you wrote:\n>> We meet at ten.\n>> Or at eleven.\n> Fine with me.\n\nSee you.\n"
)
LONG_SENTENCE = "and then the gulls came back to the pier again " * 400
NO_SPACES_TH = "".join(PROSE["th"]).replace(" ", "") * 40
NO_MARKS_ZH = "".join(PROSE["zh-CN"]).translate(dict.fromkeys(map(ord, "，。"))) * 60
ONE_WORD = "x" * 5_000
DATA_URL = "Look: ![chart](data:image/png;base64," + "iVBORw0KGgo" * 2_000 + ") and go on.\n"
ZALGO = "Z" + "\u0335\u0317\u0348" * 8 + "algo is here, and the text goes on. " * 60
TABLE = "| Bird | Note |\n|---|---|\n" + "".join(
    f"| bird {n} | the gull of pier {n} sat there |\n" for n in range(200)
)
CJK_TABLE = "|名前|値段|\n|---|---|\n|魚|１２３円|\n|貝 \\| 海老|高い|\n"
INVALID = b"Caf\xe9 au lait, s'il vous pla\xeet. \xff\xfe Merci beaucoup !"
LATEX = "The area is $$\\int_0^1 x^2 dx$$ and \\(a+b\\) is a sum.\n"
SUBTITLES = (
    "1\n00:00:01,000 --> 00:00:04,000\nGood morning.\n\n"
    "2\n00:00:05,000 --> 00:00:07,500\nMorning!\n"
)
UNCLOSED = "<div><p>Never closed <b>text\n\n``` \nA fence that never ends, with words.\n"
DEEP = "".join("  " * depth + f"- level {depth} of the list\n" for depth in range(30))
MIXED_LANGUAGES = "He said: „Guten Tag“, then 「こんにちは」, and at last «Добрый день».\n\nEnd.\n"
LINKS = (
    "Read [the long guide. It is long, but good](https://example.com/the/guide) before the rest, "
    'and <a href="x.html" title="Go on. Now">go on</a> with `make it. now please`, '
    "on **bold. Words** "
) * 30
LINES = "\n".join(PROSE["en"]) + "\n" + "\n".join(PROSE["en"])

WRITTEN = [
    Sample(
        name="readme",
        language="en",
        text=README,
        sent=("Install it with `pip install harbour`", "gull", "12 \\| pier", "Hidden words.",
              "The footnote's own text.", "More to <b>see</b>", "nothing else", "Setext heading"),
        frame=("title:", "def feed", "Do not translate", "indented_code", "---", "A comment", "|--",
               "https://example.com/alone", "Not translated", "- bread", "1. ", "> A", "[x]", "# "),
    ),
    Sample(
        name="html",
        language="en",
        text=HTML,
        sent=("The harbour", "<b>little</b> harbour", "Good morning", "fish &amp; chips", "gulls"),
        frame=("<p>", "<li>", "var greeting", "not text", "color", "kept", "doctype", "<img"),
    ),
    Sample(name="html-fragment", language="en", text=FRAGMENT, frame=("<p>", "div")),
    Sample(name="strings", language="en", text=STRINGS),
    Sample(name="mixed-white-space", language="en", text=MIXED, sent=("Indented by a tab",)),
    Sample(name="right-to-left", language="he", text=RTL),
    Sample(name="emoji-in-text", language="en", text=EMOJI_TEXT),
    Sample(name="dialogue", language="en", text=DIALOGUE),
    Sample(name="log", language="en", text=LOG),
    Sample(name="crlf-list", language="en", text=CRLF_LIST, frame=("- ",)),
    Sample(name="mail", language="en", text=QUOTE_MAIL, frame=(">",)),
    Sample(name="long-sentence", language="en", text=LONG_SENTENCE),
    Sample(name="thai-without-spaces", language="th", text=NO_SPACES_TH),
    Sample(name="chinese-without-marks", language="zh", text=NO_MARKS_ZH),
    Sample(name="one-word", language="en", text=ONE_WORD),
    Sample(name="data-url", language="en", text=DATA_URL, frame=("iVBOR",), sent=("Look:",)),
    Sample(name="many-marks-on-a-letter", language="en", text=ZALGO),
    Sample(name="table", language="en", text=TABLE, frame=("|",)),
    Sample(name="table-ja", language="ja", text=CJK_TABLE, sent=("貝 \\| 海老", "高い")),
    Sample(name="latex", language="en", text=LATEX),
    Sample(name="subtitles", language="en", text=SUBTITLES, frame=("-->",), sent=("Morning!",)),
    Sample(name="unclosed", language="en", text=UNCLOSED),
    Sample(name="deep-list", language="en", text=DEEP, frame=("- ",)),
    Sample(name="mixed-languages", language="en", text=MIXED_LANGUAGES),
    Sample(name="links", language="en", text=LINKS),
    Sample(name="lines", language="en", text=LINES),
    Sample(
        name="byte-order-mark",
        language="en",
        text="\ufeff# Title\n\nText.\n",
        frame=("\ufeff", "#"),
    ),
    Sample(name="nul", language="en", text="One\0two.\n\n- three\0 four\n"),
    Sample(name="invalid-utf-8", language="fr", text=INVALID.decode(errors="surrogateescape")),
    Sample(name="replaced-utf-8", language="fr", text=INVALID.decode(errors="replace")),
]  # fmt: skip

NOTHING = [
    Sample(name="empty", language="en", text=""),
    Sample(name="spaces", language="en", text="   "),
    Sample(name="white-space", language="en", text=" \r\n\t\u3000\u00a0\n\u2028"),
    Sample(name="only-emoji", language="en", text="👍👍🏽 👨‍👩‍👧\n🇩🇪"),
    Sample(name="only-numbers", language="en", text="12,5\n- 3\n\n١٢٣"),
    Sample(name="only-urls", language="en", text="https://example.com/a\nwww.example.com\n"),
    Sample(name="only-placeholders", language="en", text="{name}: %s {{x}}\n${y} %(z)s\n"),
    Sample(name="only-code", language="en", text=CODE_ONLY),
    Sample(name="only-marks", language="en", text="---\n\n* * *\n\n...!?\n|---|\n"),
    Sample(name="only-tags", language="en", text="<div><img src='a.png'/></div>\n<!-- no -->"),
]
"""Documents with nothing to translate."""

LARGE = [
    *(
        Sample(name=f"large-{code}", language=code, text=_long(code))
        for code in ("en", "de", "ru", "ar", "hi", "th", "zh-CN", "ja", "ko")
    ),
    Sample(
        name="large-markdown",
        language="en",
        text=(README.split("---\n\n", 1)[1] + "\n" + _long("en", size=3_000) + "\n\n") * 50,
    ),
    Sample(name="large-html", language="en", text=HTML.replace("</body>", "") * 320 + "</html>"),
    Sample(
        name="large-line", language="en", text=_long("en").replace("\n", " ").replace("\r", " ")
    ),
]
"""Of 200 kB and more."""

SUITE = [*_prose(), *WRITTEN, *NOTHING, *LARGE]
