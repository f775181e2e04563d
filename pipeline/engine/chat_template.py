"""From a request's words to token ids, through the checkpoint's own chat template.

Whatever quirks the template has are kept: ShieldGemma 2's puts the policy into words of its own and
opens the user's turn twice, TranslateGemma's asks for two languages and says the rest itself.

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
        tokenizer: A transformers tokenizer.
        template: The chat template, in Jinja; by default the tokenizer's own.
    """

    def __init__(self, tokenizer: Tokenizer, template: str | None = None) -> None:
        self._tokenizer = tokenizer
        self._template = template
        added = tokenizer.added_tokens_decoder.items()
        self._control = {token.content: index for index, token in added if token.special}
        longest_first = sorted(self._control, key=len, reverse=True)
        self._cut = re.compile("(" + "|".join(map(re.escape, longest_first)) + ")")
        self.encode = functools.lru_cache(PROMPT_CACHE)(self._encode)
        """`encode(prompt, system, images, languages)`: see `_encode`."""

    def ids_of(self, control: str) -> tuple[int, ...]:
        """The id of a control string; none where the tokenizer does not know it."""
        return (self._control[control],) if control in self._control else ()

    def id_of_word(self, word: str) -> int:
        """The id of a word that is one token. Raises ValueError where it is none or several."""
        ids = self._encode_text(word)
        if len(ids) != 1:
            raise ValueError(f"'{word}' is {len(ids)} tokens, not one")
        return ids[0]

    def count(self, text: str) -> int:
        """Tokens of a text by itself."""
        return len(self._encode_text(text))

    def _encode(
        self,
        prompt: str,
        system: str | None = None,
        images: int = 0,
        languages: tuple[str, str] | None = None,
    ) -> tuple[int, ...]:
        """Token ids of one user turn and the opening of the answer.

        Args:
            prompt: The user's text; white space at its ends goes, as in the template.
            system: Text before it, or None.
            images: How many image placeholders stand before the text.
            languages: Codes of the text's language and of that of its translation, where the
                template asks for them.

        Raises:
            ValueError: The template leaves one of the texts out or repeats it.
        """
        texts = {} if not prompt.strip() and images else {_mark(0): prompt.strip()}
        content = _content([*texts], images, languages)
        messages = [{"role": "user", "content": content}]
        if system is not None:
            texts[_mark(1)] = system.strip()
            item = [{"type": "text", "text": _mark(1)}]
            messages.insert(0, {"role": "system", "content": item})
        pieces = self._cut.split(self._fill_template(messages, [*texts]))
        ids: list[int] = []
        for number, piece in enumerate(pieces):
            if number % 2:  # a control string of the template
                ids.append(self._control[piece])
            elif piece:
                ids.extend(self._encode_text(_put_back(piece, texts)))
        return tuple(ids)

    def _fill_template(self, messages: list[dict[str, Any]], marks: list[str]) -> str:
        options = {} if self._template is None else {"chat_template": self._template}
        text = cast(
            "str",
            self._tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True, **options
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


def _content(
    marks: list[str], images: int, languages: tuple[str, str] | None
) -> list[dict[str, str]]:
    """What the user's turn holds, as chat templates take it."""
    codes = {}
    if languages is not None:
        codes = {"source_lang_code": languages[0], "target_lang_code": languages[1]}
    texts = [{"type": "text", **codes, "text": mark} for mark in marks]
    return [{"type": "image", **codes}] * images + texts


def _mark(number: int) -> str:
    """A string that no template holds and no tokenizer knows (private-use characters)."""
    return f"\uf8f0text{number}\uf8f1"


def _put_back(piece: str, texts: dict[str, str]) -> str:
    if not texts:
        return piece
    # One pass, so that a text that itself holds a mark is left as it is.
    marks = "|".join(map(re.escape, texts))
    return re.sub(marks, lambda found: texts[found.group()], piece)
