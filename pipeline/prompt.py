"""From a request's words to token ids, through the checkpoint's own chat template.

Decides that text is text: whatever a row or a user writes, `<start_of_image>` and `<end_of_turn>`
included, never becomes a control token; only the template's own control strings do. Where no text
holds such a string, the ids equal those of the ordinary tokenisation of the filled template.
Expanding an image's placeholder into soft tokens is the model's processor's.

How: the template is rendered with private marks in place of the texts, cut at its control strings,
and each piece, texts put back, is encoded with control strings switched off.
"""

from __future__ import annotations

import functools
import re
from typing import Any, Protocol, cast

PROMPT_CACHE = 1024
"""Distinct prompts remembered; a job whose prompt is constant encodes it once."""


class Tokenizer(Protocol):
    """What is used of a transformers tokenizer."""

    added_tokens_decoder: dict[int, Any]
    unk_token_id: int | None

    def encode(self, text: str, **options: Any) -> list[int]:
        """Text to ids."""
        ...

    def apply_chat_template(self, conversation: list[dict[str, Any]], **options: Any) -> Any:
        """Messages to text."""
        ...


class PromptEncoder:
    """Encodes requests for one tokenizer.

    Args:
        tokenizer: A transformers tokenizer with a chat template.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        added = tokenizer.added_tokens_decoder.items()
        self._control = {token.content: index for index, token in added if token.special}
        longest_first = sorted(self._control, key=len, reverse=True)
        self._cut = re.compile("(" + "|".join(map(re.escape, longest_first)) + ")")
        self.encode = functools.lru_cache(PROMPT_CACHE)(self._encode)
        """`encode(prompt, system, images)`: see `_encode`."""

    def ids_of(self, control: str) -> tuple[int, ...]:
        """The id of a control string; none where the tokenizer does not know it."""
        return (self._control[control],) if control in self._control else ()

    def _encode(self, prompt: str, system: str | None, images: int) -> tuple[int, ...]:
        """Token ids of one user turn and the opening of the answer.

        Args:
            prompt: The user's text; white space at its ends goes, as in the template.
            system: Text before it, or None.
            images: How many image placeholders stand before the text.

        Raises:
            ValueError: The template leaves one of the texts out or repeats it.
        """
        texts = {_mark(0): prompt.strip()}
        if system is not None:
            texts[_mark(1)] = system.strip()
        pieces = self._cut.split(self._fill_template(images, list(texts)))
        ids: list[int] = []
        for number, piece in enumerate(pieces):
            if number % 2:  # a control string of the template
                ids.append(self._control[piece])
            elif piece:
                ids.extend(self._encode_text(_put_back(piece, texts)))
        return tuple(ids)

    def _fill_template(self, images: int, marks: list[str]) -> str:
        content: list[dict[str, str]] = [{"type": "image"}] * images
        messages = [{"role": "user", "content": [*content, {"type": "text", "text": marks[0]}]}]
        if len(marks) > 1:
            system = [{"type": "text", "text": marks[1]}]
            messages.insert(0, {"role": "system", "content": system})
        text = cast(
            "str",
            self._tokenizer.apply_chat_template(
                cast("list[dict[str, Any]]", messages), tokenize=False, add_generation_prompt=True
            ),
        )
        for mark in marks:
            if text.count(mark) != 1:
                raise ValueError(
                    f"the chat template holds a text {text.count(mark)} times, not once"
                )
        return text

    def _encode_text(self, text: str) -> list[int]:
        ids = self._tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        # An unknown character may rightly be <unk>; every other control id would be an injection.
        leaked = {*ids} & {*self._control.values()} - {self._tokenizer.unk_token_id}
        assert not leaked, f"text became control tokens {leaked}"
        return ids


def _mark(number: int) -> str:
    """A string that no template holds and no tokenizer knows (private-use characters)."""
    return f"\uf8f0text{number}\uf8f1"


def _put_back(piece: str, texts: dict[str, str]) -> str:
    # One pass, so that a text that itself holds a mark is left as it is.
    marks = "|".join(map(re.escape, texts))
    return re.sub(marks, lambda found: texts[found.group()], piece)
