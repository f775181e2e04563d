"""The built-in kinds of caption: the prompt of each, and the form of its answer."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobs.options.check import unknown
from pipeline import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_TAGS = 30
ALT_WORDS = "at most 15 words"
"""In the prompt for alt text; another number may be asked for."""


@dataclass(frozen=True, kw_only=True)
class Style:
    """One kind of caption.

    Attributes:
        prompt: The prompt after the image.
        opening: Raw text in its place, which a base model continues; `{language}` is empty, or
            says in which language.
        stop: Text that ends what continues it.
        max_tokens: Longest answer, unless the option `max_tokens` is set.
        schema: JSON schema of the answer; None for text.
    """

    prompt: str
    opening: str
    stop: str | None = "\n"
    max_tokens: int = 128
    schema: Mapping[str, Any] | None = None


STYLES: Mapping[str, Style] = {
    "alt": Style(
        prompt=(
            "Write alt text for this image, for people who cannot see it: what matters in it, in "
            f"{ALT_WORDS}. Do not begin with 'image of'. Answer with the alt text only."
        ),
        opening="Alt text of this image{language}:",
    ),
    "sentence": Style(
        prompt=(
            "Describe this image in one sentence, naming its main subject, what it does and where. "
            "Answer with the sentence only."
        ),
        opening="This image, described in one sentence{language}:",
    ),
    "dense": Style(
        prompt=(
            "Describe this image in detail: every subject, its looks and where it is, what happens,"
            " the background, text that can be read, the colours, the light and the style. Write "
            "one paragraph about what is visible only. Answer with the paragraph only."
        ),
        opening="This image, described in detail{language}:",
        max_tokens=512,
    ),
    "tags": Style(
        prompt=(
            "List tags for this image: its subjects, actions, place, colours and style, the most "
            "important first, each of one to three words in lower case. Answer with a JSON list of "
            "strings."
        ),
        opening="Tags of this image{language}, as a JSON list of strings:",
        stop=None,
        max_tokens=256,
        schema={"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": MOST_TAGS},
    ),
    "ocr": Style(
        prompt=(
            "Write down all text that can be read in this image, exactly as it is written and in "
            "its order, line by line. Answer with the text only, and with nothing if there is none."
        ),
        opening="All text in this image{language}:",
        stop="\n\n",
        max_tokens=1024,
    ),
}
"""Alt text, one sentence, a dense description, tags as a list, and the text in the image."""


def find_style(name: str) -> Style:
    """The style of that name.

    Raises:
        UserError: There is none; the message suggests the nearest.
    """
    if name not in STYLES:
        raise UserError(f"style: '{name}': {unknown(name, STYLES, 'style')}")
    return STYLES[name]


def of_videos(text: str) -> str:
    """A prompt or an opening in the words for a video."""
    return re.sub(r"\bimage\b", "video", text)


def schema_text(schema: Mapping[str, Any] | None) -> str | None:
    """A schema as JSON text, the same each time; None for None."""
    return None if schema is None else json.dumps(schema, ensure_ascii=False)
