"""Text to ids and back, where text is text: a control string in it never becomes a control token.

Over the `tokenizers` library alone, which loads in a fraction of a second; transformers is imported
only for a checkpoint that has no ``tokenizer.json``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MOST_NEWLINES: Final = 64
"""More than any vocabulary has in one token; that of Gemma 3 has runs of up to 31."""
CONTROL: Final = re.compile(
    r"<(?:pad|eos|bos|unk|mask|(?:start|end)_of_(?:turn|image)|image_soft_token|unused\d+)>"
    r"|\[multimodal\]"
)
"""Gemma 3's control strings. Files that were converted from another format may say of some that
they are ordinary tokens, which would make `<start_of_image>` in a text an image."""


class TextTokenizer:
    """Encodes text for one checkpoint.

    Args:
        backend: The tokenizer, shared with nobody who needs control strings in a text to count.

    Attributes:
        declared: Ids of the control tokens that the file says are such, by their strings.
        control: Ids of all control tokens, which may be more.
        unknown: Id of the token for what the vocabulary lacks; None if there is none.
        newlines: For the id of each token that is nothing but newlines, how many.
    """

    def __init__(self, backend: Tokenizer) -> None:
        self._backend = backend
        # A tokenizer may be saved with limits of its training, which transformers leaves out too.
        backend.no_truncation()
        backend.no_padding()
        self.declared = control_ids(backend)
        _mark_control(backend)
        self.control = control_ids(backend)
        unknown = getattr(backend.model, "unk_token", None)
        self.unknown: int | None = None if unknown is None else backend.token_to_id(unknown)
        runs = ((count, backend.token_to_id("\n" * count)) for count in range(1, MOST_NEWLINES))
        self.newlines: Mapping[int, int] = {
            number: count for count, number in runs if number is not None
        }

    @classmethod
    def from_folder(cls, folder: Path) -> TextTokenizer:
        """Load a checkpoint's tokenizer.

        Raises:
            Exception: It cannot be read; the libraries raise nothing more special.
        """
        file = folder / "tokenizer.json"
        if file.exists():
            from tokenizers import Tokenizer

            return cls(Tokenizer.from_file(str(file)))
        from transformers import AutoTokenizer

        return cls(AutoTokenizer.from_pretrained(folder).backend_tokenizer)

    def encode(self, text: str) -> list[int]:
        """The ids of a text, control strings in it as text, without ``<bos>``."""
        self._backend.encode_special_tokens = True
        ids: list[int] = self._backend.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, control tokens as their strings."""
        text: str = self._backend.decode(list(ids), skip_special_tokens=False)
        return text


def control_ids(backend: Tokenizer) -> Mapping[str, int]:
    """Ids of a tokenizer's control tokens, by their strings."""
    added = backend.get_added_tokens_decoder().items()
    return {token.content: number for number, token in added if token.special}


def _mark_control(backend: Tokenizer) -> None:
    """Make control tokens of all that are Gemma's, whatever the file says."""
    from tokenizers import AddedToken

    added = backend.get_added_tokens_decoder().values()
    names = [t.content for t in added if not t.special and CONTROL.fullmatch(t.content)]
    backend.add_special_tokens([AddedToken(n, normalized=False, special=True) for n in names])
