"""Decides how an answer's token ids become its text: all at once, where that is the same text.

vLLM 0.32 decodes a token at a time, for those who stream, and withholds a character until all of
its bytes are there. An answer that is read only at its end can be decoded at once, at a tenth of
the cost. The text is the same where the tokenizer's decoder puts the texts of tokens side by side,
as Gemma's does, and the bytes of every character are complete. Any other answer is decoded by vLLM.
"""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vllm.outputs import CompletionOutput

SIDE_BY_SIDE = {"Replace", "ByteFallback", "Fuse"}
"""Steps of a decoder after which a text is that of its tokens, one after the other, but for bytes
that are no characters."""
INCOMPLETE = "\N{REPLACEMENT CHARACTER}"


class Detokenizer:
    """Texts of one engine's answers, without control tokens.

    Args:
        tokenizer: The engine's, as vLLM has it.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._at_once = _puts_tokens_side_by_side(tokenizer.backend_tokenizer.decoder)

    def answer(
        self, output: CompletionOutput, prompt: Sequence[int], *, stop: Sequence[str]
    ) -> str:
        """The text of one of a request's answers.

        Args:
            output: The answer, whose tokens vLLM decoded only if it had to find `stop` in them.
            prompt: The tokens before it.
            stop: The request's texts that end an answer.
        """
        if stop:
            return str(output.text)
        ends_at_token = output.finish_reason == "stop"
        return self.text(output.token_ids[:-1] if ends_at_token else output.token_ids, prompt)

    def text(self, ids: Sequence[int], prompt: Sequence[int]) -> str:
        """The text of an answer.

        Args:
            ids: Its tokens, without the one that ended it.
            prompt: The tokens before it.
        """
        if self._at_once:
            text: str = self._tokenizer.backend_tokenizer.decode(ids, skip_special_tokens=True)
            if INCOMPLETE not in text:
                return text
        return self._by_vllm(ids, prompt)

    def _by_vllm(self, ids: Sequence[int], prompt: Sequence[int]) -> str:
        from vllm import SamplingParams
        from vllm.v1.engine.detokenizer import IncrementalDetokenizer

        request: Any = SimpleNamespace(
            request_id="", sampling_params=SamplingParams(), prompt_token_ids=[*prompt]
        )
        incremental = IncrementalDetokenizer.from_new_request(self._tokenizer, request)
        incremental.update([*ids], stop_terminated=False)
        return str(incremental.get_next_output_text(finished=True, delta=False))


def _puts_tokens_side_by_side(decoder: Any) -> bool:
    if decoder is None:
        return False
    steps = json.loads(decoder.__getstate__())
    return {step["type"] for step in steps.get("decoders", [steps])} <= SIDE_BY_SIDE
