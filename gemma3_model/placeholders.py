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
from typing import Any, Final

from gemma3_model.pan_and_scan import BETWEEN_CROPS, INTRODUCTION, TRANSITION

BREAK: Final = "\n\n"

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
class Placeholders:
    """The ids around an image, read from the checkpoint, and how they are inserted into a prompt.

    Attributes:
        begin: ``<start_of_image>``.
        soft: ``<image_soft_token>``.
        end: ``<end_of_image>``.
        soft_per_image: Soft tokens of one image or crop.
        control: Ids of all control tokens; text is never joined across one.
        newlines: id -> how many newlines that token stands for.
        tokenizer: A transformers tokenizer.
    """

    begin: int
    soft: int
    end: int
    soft_per_image: int
    control: frozenset[int]
    newlines: Mapping[int, int]
    tokenizer: Any

    @classmethod
    def from_checkpoint(cls, config: Any, tokenizer: Any) -> Placeholders:
        """Read the ids of special tokens from the configuration, newlines from the tokenizer."""
        added = tokenizer.added_tokens_decoder.items()
        begin, soft, end = config.boi_token_index, config.image_token_id, config.eoi_token_index
        return cls(
            begin=begin,
            soft=soft,
            end=end,
            soft_per_image=config.mm_tokens_per_image,
            control=frozenset(token_id for token_id, token in added if token.special)
            | {begin, soft, end},
            newlines={
                token_id: len(token)
                for token, token_id in tokenizer.get_vocab().items()
                if token and not token.strip("\n")
            },
            tokenizer=tokenizer,
        )

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
        found = sum(token == self.begin for token in prompt)
        if found != len(num_crops):
            raise ValueError(
                f"The prompt has {found} <start_of_image> for {len(num_crops)} images."
            )
        ids: list[int] = []
        text: list[Piece] = []
        for piece in self._pieces(prompt, num_crops):
            if isinstance(piece, int) and piece in self.control:
                ids += [*self._joined(text), piece]
                text = []
            else:
                text.append(piece)
        ids += self._joined(text)
        return ids, list(self._places(ids, num_crops))

    def _pieces(self, prompt: Sequence[int], num_crops: Sequence[int]) -> Iterator[Piece]:
        """The prompt's ids, with ids and words in place of each image."""
        crops = iter(num_crops)
        for token in prompt:
            if token == self.begin:
                yield from self._image(next(crops))
            else:
                yield token

    def _image(self, num_crops: int) -> Iterator[Piece]:
        soft = [self.soft] * self.soft_per_image
        view: list[Piece] = [BREAK, self.begin, *soft, self.end, BREAK]
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
            yield "".join(words) if words else self.tokenizer.decode(members)

    def _newlines_joined(self, pieces: Sequence[Piece]) -> Iterator[int]:
        """Where only newlines were inserted: all other ids stay as they are."""
        newlines = 0
        for piece in pieces:
            count = len(piece) if isinstance(piece, str) else self.newlines.get(piece, 0)
            newlines += count
            if not count:
                assert isinstance(piece, int)
                yield from self._encoded("\n" * newlines)
                newlines = 0
                yield piece
        yield from self._encoded("\n" * newlines)

    def _encoded(self, text: str) -> list[int]:
        if not text:
            return []
        ids: list[int] = self.tokenizer.encode(
            text, add_special_tokens=False, split_special_tokens=True
        )
        return ids

    def _places(self, ids: Sequence[int], num_crops: Sequence[int]) -> Iterator[Place]:
        starts = iter([place + 1 for place, token in enumerate(ids) if token == self.begin])
        for crops in num_crops:
            views = [next(starts) for _ in range(crops + 1)]
            end = views[-1] + self.soft_per_image
            is_soft = [ids[place] == self.soft for place in range(views[0], end)]
            yield Place(start=views[0], is_soft=is_soft)
