r"""Decides which tokens stand for an image in a prompt, and where its soft tokens are.

An image is one ``<start_of_image>`` in a prompt and is expanded to

    \n\n <start_of_image> <image_soft_token> * K <end_of_image> \n\n

or, with crops, to that once for itself and once for each crop, with the words of
:mod:`gemma3_model.pan_and_scan` between. The tokenizer has one token for a whole run of newlines
and joins words with the spaces before them, so the text next to an insertion is tokenised
together with it, as if the expanded prompt had been tokenised as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from gemma3_model.pan_and_scan import BETWEEN_CROPS, INTRODUCTION, TRANSITION

if TYPE_CHECKING:
    from transformers import Gemma3Config, ShieldGemma2Config

    from gemma3_model.tokenizer import TextTokenizer

BREAK: Final = "\n\n"
DEFAULT_PER_IMAGE: Final = 256
"""Of transformers' ``Gemma3Config``, for a configuration that leaves it out."""

Piece = int | str
"""Of a prompt while it is expanded: an id, or text that is not tokenised yet."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where an image and its crops stand in an expanded prompt.

    Attributes:
        start: Position of the first soft token.
        is_soft: For each position from there to the last soft token, whether it is one.
    """

    start: int
    is_soft: list[bool]


@dataclass(frozen=True, kw_only=True)
class ImageTokens:
    """The ids around an image.

    Attributes:
        begin: ``<start_of_image>``.
        soft: ``<image_soft_token>``.
        end: ``<end_of_image>``.
        per_image: Soft tokens of one image or crop.
    """

    begin: int
    soft: int
    end: int
    per_image: int

    @classmethod
    def from_config(cls, config: Gemma3Config | ShieldGemma2Config) -> ImageTokens:
        """As transformers' configuration of a checkpoint names them."""
        return cls(
            begin=config.boi_token_index,
            soft=config.image_token_id,
            end=config.eoi_token_index,
            per_image=config.mm_tokens_per_image,
        )

    @classmethod
    def from_json(cls, config: Mapping[str, Any], tokenizer: TextTokenizer) -> ImageTokens:
        """As a checkpoint's ``config.json`` names them; the tokenizer knows what it leaves out.

        Raises:
            ValueError: Neither knows one of them.
        """

        def token(string: str, *names: str) -> int:
            named = [config[name] for name in names if config.get(name) is not None]
            if not named and string not in tokenizer.control:
                raise ValueError(f"config.json names no {names[0]}, and there is no {string}")
            return int(named[0] if named else tokenizer.control[string])

        return cls(
            begin=token("<start_of_image>", "boi_token_index"),
            soft=token("<image_soft_token>", "image_token_index", "image_token_id"),
            end=token("<end_of_image>", "eoi_token_index"),
            per_image=int(config.get("mm_tokens_per_image", DEFAULT_PER_IMAGE)),
        )


class Placeholders:
    """Inserts the ids of images into prompts.

    Args:
        tokens: The ids around an image.
        tokenizer: Encodes the text beside them. Text is never joined across a control token.
    """

    def __init__(self, tokens: ImageTokens, tokenizer: TextTokenizer) -> None:
        self.tokens = tokens
        self._tokenizer = tokenizer
        self._control = {*tokenizer.control.values(), tokens.begin, tokens.soft, tokens.end}

    def expand(
        self, prompt: Sequence[int], num_crops: Sequence[int]
    ) -> tuple[list[int], list[Place]]:
        """Expand each ``<start_of_image>`` of a prompt.

        Args:
            prompt: Ids.
            num_crops: For each image of the prompt, how many crops follow it.

        Returns:
            The new ids, and each image's place in them.

        Raises:
            ValueError: The prompt has more or fewer ``<start_of_image>`` than images.
        """
        found = sum(token == self.tokens.begin for token in prompt)
        if found != len(num_crops):
            raise ValueError(
                f"The prompt has {found} <start_of_image> for {len(num_crops)} images."
            )
        ids: list[int] = []
        text: list[Piece] = []
        for piece in self._pieces(prompt, num_crops):
            if not isinstance(piece, int) or piece not in self._control:
                text.append(piece)
                continue
            if text:  # there is none between an image's hundreds of ids
                ids += self._joined(text)
                text = []
            ids.append(piece)
        ids += self._joined(text)
        return ids, list(self._places(ids, num_crops))

    def _pieces(self, prompt: Sequence[int], num_crops: Sequence[int]) -> Iterator[Piece]:
        """The prompt's ids, with ids and words in place of each image."""
        crops = iter(num_crops)
        for token in prompt:
            if token == self.tokens.begin:
                yield from self._image(next(crops))
            else:
                yield token

    def _image(self, num_crops: int) -> Iterator[Piece]:
        tokens = self.tokens
        soft = [tokens.soft] * tokens.per_image
        view: list[Piece] = [BREAK, tokens.begin, *soft, tokens.end, BREAK]
        if not num_crops:
            yield from view
            return
        yield INTRODUCTION
        yield from view
        yield TRANSITION
        yield from view
        for _ in range(num_crops - 1):
            yield BETWEEN_CROPS
            yield from view

    def _joined(self, pieces: Sequence[Piece]) -> list[int]:
        """The ids of a text between two control tokens, part of which is ids already."""
        if {piece for piece in pieces if isinstance(piece, str)} <= {BREAK}:
            return list(self._newlines_joined(pieces))
        return self._encoded("".join(self._texts(pieces)))

    def _texts(self, pieces: Sequence[Piece]) -> Iterator[str]:
        for _, group in groupby(pieces, lambda piece: isinstance(piece, str)):
            members = list(group)
            words = [piece for piece in members if isinstance(piece, str)]
            # Ids together: a character may be spread over several of them.
            yield "".join(words) if words else self._tokenizer.decode([*map(int, members)])

    def _newlines_joined(self, pieces: Sequence[Piece]) -> Iterator[int]:
        """Where only newlines were inserted: all other ids stay as they are."""
        newlines = 0
        for piece in pieces:
            count = len(piece) if isinstance(piece, str) else self._tokenizer.newlines.get(piece, 0)
            newlines += count
            if not count:
                assert isinstance(piece, int)
                yield from self._encoded("\n" * newlines)
                newlines = 0
                yield piece
        yield from self._encoded("\n" * newlines)

    def _encoded(self, text: str) -> list[int]:
        return self._tokenizer.encode(text) if text else []

    def _places(self, ids: Sequence[int], num_crops: Sequence[int]) -> Iterator[Place]:
        starts = iter([place + 1 for place, token in enumerate(ids) if token == self.tokens.begin])
        for crops in num_crops:
            views = [next(starts) for _ in range(crops + 1)]
            end = views[-1] + self.tokens.per_image
            is_soft = [ids[place] == self.tokens.soft for place in range(views[0], end)]
            yield Place(start=views[0], is_soft=is_soft)
