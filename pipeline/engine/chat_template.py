"""From a request to token ids, through a chat template: the checkpoint's own or one of `turns`.

A template's quirks are kept: ShieldGemma 2's adds its own sentences around the policy and opens the
user's turn twice, TranslateGemma's takes two language codes and writes the instruction itself.

Decides that text is text: `<start_of_image>` or `<end_of_turn>` in a row or a user's prompt never
becomes a control token; only the template's own control strings do. If no text contains a control
string, the ids equal those of tokenizing the filled template in the ordinary way. The model's
processor later expands an image's placeholder into soft tokens.

How: the template is filled with private marks in place of the texts and cut at its control strings;
each piece, with the texts put back, is then encoded with control strings switched off.
"""

from __future__ import annotations

import functools
import json
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jinja2 import Environment

PROMPT_CACHE = 256
"""Distinct prompts remembered, and texts whose tokens were counted. A constant prompt is encoded
once, a text that is counted for each of its languages too."""
REMEMBERED = 4000
"""Characters of the longest of them: a longer prompt is mostly a row's own text, and its ids take
some 45 bytes each."""


class TextTokenizer(Protocol):
    """The part of `gemma3_model.tokenizer.TextTokenizer` that is used here."""

    @property
    def control(self) -> Mapping[str, int]:
        """Ids of all control tokens, by their strings."""
        ...

    @property
    def unknown(self) -> int | None:
        """Id of the token for what the vocabulary lacks."""
        ...

    def encode(self, text: str) -> list[int]:
        """Text to ids, control strings in it as text."""
        ...


class PromptEncoder:
    """Encodes requests for one model.

    Args:
        tokenizer: The model's.
        template: The chat template, in Jinja.
        named: Control strings by the names that templates have for them, such as `bos_token`.

    Raises:
        jinja2.TemplateSyntaxError: The template is not Jinja.
    """

    def __init__(
        self,
        tokenizer: TextTokenizer,
        template: str,
        named: Mapping[str, str],
    ) -> None:
        self._tokenizer = tokenizer
        self._template = _environment().from_string(template)
        self._named = named
        self._control = tokenizer.control
        # An unknown character may become <unk>; any other control id would be an injection.
        self._forbidden = frozenset(self._control.values()) - {tokenizer.unknown}
        self._remembered = functools.lru_cache(PROMPT_CACHE)(self._encode)
        # Prompts that differ in their texts alone fill the template alike, unless it has the time.
        size = 0 if "strftime_now" in template else PROMPT_CACHE
        self._pieces = functools.lru_cache(size)(self._fill_template)
        # A task asks where to cut a text, and how long its answer may be, for each language.
        self._counted = functools.lru_cache(PROMPT_CACHE)(self._count)

    def ids_of(self, control: str) -> tuple[int, ...]:
        """The id of a control string, or nothing if the tokenizer does not know it."""
        return (self._control[control],) if control in self._control else ()

    def token_id(self, word: str) -> int:
        """The id of a word that is a single token.

        Raises:
            ValueError: It is several tokens, or none.
        """
        ids = self._encode_text(word)
        if len(ids) != 1:
            raise ValueError(f"'{word}' is {len(ids)} tokens, not one")
        return ids[0]

    def next_token_ids(self, words: Sequence[str], text: str) -> tuple[int, ...]:
        """Ids of the tokens by which words continue a text.

        A tokenizer has a word together with the space before it. So that is what follows the text,
        unless it ends with white space, or one of the words has no such token.

        Raises:
            ValueError: A word is not a single token either way.
        """
        spaced = [f" {word}" for word in words]
        has_space = text[-1:].isspace() or any(self.count(word) != 1 for word in spaced)
        return tuple(self.token_id(word) for word in (words if has_space else spaced))

    def count(self, text: str) -> int:
        """The number of tokens of a text on its own."""
        return self._counted(text) if len(text) <= REMEMBERED else self._count(text)

    def _count(self, text: str) -> int:
        return len(self._encode_text(text))

    def encode(
        self,
        prompt: str,
        system: str | None = None,
        images: int = 0,
        languages: tuple[str, str] | None = None,
        labels: tuple[str, ...] = (),
    ) -> tuple[int, ...]:
        """Token ids of one user turn and the opening of the answer.

        Args:
            prompt: The user's text.
            system: Text before it, or None.
            images: Number of image placeholders before the text.
            languages: Codes of the text's language and of its translation's, for a template that
                takes them.
            labels: Text before each image; none, or one for each, and empty ones are left out.

        Raises:
            ValueError: The template leaves one of the texts out or repeats it, or there are labels
                for more or fewer images.
        """
        encode = self._remembered if len(prompt) <= REMEMBERED else self._encode
        return encode(prompt, system, images, languages, labels)

    def _encode(
        self,
        prompt: str,
        system: str | None,
        images: int,
        languages: tuple[str, str] | None,
        labels: tuple[str, ...],
    ) -> tuple[int, ...]:
        texts = {} if not prompt.strip() and images else {_mark(0): prompt.strip()}
        content = _content([_marked(0, prompt)] if texts else [], images, languages)
        if labels:
            if len(labels) != images:
                raise ValueError(f"{len(labels)} labels for {images} images")
            texts |= _insert(labels, content)
        messages = [{"role": "user", "content": content}]
        if system is not None:
            texts[_mark(1)] = system.strip()
            item = [{"type": "text", "text": _marked(1, system)}]
            messages.insert(0, {"role": "system", "content": item})
        ids: list[int] = []
        for piece in self._pieces(json.dumps(messages), *texts):
            if isinstance(piece, str):
                ids.extend(self._encode_text(_put_back(piece, texts)))
            else:
                ids.extend(piece)
        return tuple(ids)

    def _fill_template(self, messages: str, *marks: str) -> list[str | list[int]]:
        """The template filled with messages (JSON), cut at its control strings.

        What has no mark in it is given as ids.
        """
        text = self._template.render(
            messages=json.loads(messages),
            tools=None,
            documents=None,
            add_generation_prompt=True,
            **self._named,
        )
        for mark in marks:
            if text.count(mark) != 1:
                raise ValueError(
                    f"the chat template holds a text {text.count(mark)} times, not once"
                )
        # Of Gemma's thousands: a pattern of all takes half a second to compile.
        found = sorted((one for one in self._control if one in text), key=len, reverse=True)
        pieces: list[str | list[int]] = []
        for number, piece in enumerate(_split(text, found)):
            if number % 2:
                pieces.append([self._control[piece]])
            else:
                has_mark = any(mark in piece for mark in marks)
                pieces.append(piece if has_mark else self._encode_text(piece))
        return pieces

    def _encode_text(self, text: str) -> list[int]:
        ids = self._tokenizer.encode(text)
        leaked = self._forbidden.intersection(ids)
        assert not leaked, f"text became control tokens {leaked}"
        return ids


@functools.cache
def _environment() -> Environment:
    """Jinja as chat templates expect it: the reference is `apply_chat_template` of transformers."""
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}` marks what a model is trained on; here it is only what it holds."""

        tags = {"generation"}  # noqa: RUF012  as Jinja declares it

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, Generation]
    )
    made.filters["tojson"] = functools.partial(json.dumps, ensure_ascii=False)
    made.globals["raise_exception"] = _refuse
    made.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return made


def _refuse(message: str) -> NoReturn:
    from jinja2 import TemplateError

    raise TemplateError(message)


def _content(
    marks: list[str], images: int, languages: tuple[str, str] | None
) -> list[dict[str, str]]:
    """The content of the user's turn, in the form that chat templates take."""
    codes = {}
    if languages is not None:
        codes = {"source_lang_code": languages[0], "target_lang_code": languages[1]}
    texts = [{"type": "text", **codes, "text": mark} for mark in marks]
    return [{"type": "image", **codes}] * images + texts


def _insert(labels: Sequence[str], content: list[dict[str, str]]) -> dict[str, str]:
    """Put a mark before each image that has a label; gives the labels by their marks."""
    texts = {_mark(2 + place): label.strip() for place, label in enumerate(labels) if label}
    for place in reversed(range(len(labels))):
        if labels[place]:
            content.insert(place, {"type": "text", "text": _mark(2 + place)})
    return texts


def _mark(number: int) -> str:
    """A string in private-use characters, which no template contains and no tokenizer knows."""
    return f"\uf8f0text{number}\uf8f1"


def _marked(number: int, text: str) -> str:
    """The mark with the white space around the text, which is then trimmed where texts are."""
    core = text.strip()
    return text.replace(core, _mark(number), 1) if core else text + _mark(number)


def _split(text: str, strings: Sequence[str]) -> list[str]:
    """A text cut before and after each of these strings, which then have the odd places."""
    return re.split("(" + "|".join(map(re.escape, strings)) + ")", text) if strings else [text]


def _put_back(piece: str, texts: dict[str, str]) -> str:
    if not texts:
        return piece
    # In one pass, so that a mark inside a text stays as it is.
    marks = "|".join(map(re.escape, texts))
    return re.sub(marks, lambda found: texts[found.group()], piece)
