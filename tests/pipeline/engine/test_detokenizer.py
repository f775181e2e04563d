"""Decoded at once, an answer's text is the one that vLLM makes of it token by token."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tokenizers import decoders
from transformers import AutoTokenizer

from jobs.registry import find_model
from pipeline.contract.task import Sampling
from pipeline.engine.detokenizer import Detokenizer
from pipeline.engine.interface import Rendered
from pipeline.engine.vllm_sampling import sampling_params
from tests.gemma3_model.parity import engine

TEXTS = (
    "A red circle above a blue square.",
    "  Zwei Leerzeichen, ein Zeilenumbruch\n\nund äöüß €",
    "日本語のテキストと中文, हिन्दी, العربية 👩‍👩‍👧 🇩🇪",
    '<b>a</b>\t{"a": [1, 2]}',
)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(find_model("demo").path)


def token_by_token(detokenizer: Detokenizer, ids: list[int], prompt: list[int]) -> str:
    return detokenizer._by_vllm(ids, prompt)


def answers(tokenizer: Any) -> Iterator[list[int]]:
    """Texts, cut anywhere; and ids of all kinds, bytes and control tokens among them."""
    for text in TEXTS:
        ids = tokenizer.encode(text, add_special_tokens=False)
        yield from (ids[begin:end] for begin in range(4) for end in range(len(ids) + 1))
    chance = random.Random(0)
    vocabulary = tokenizer.get_vocab()
    some = [[*vocabulary.values()], [*range(10)]]
    some += [[number for token, number in vocabulary.items() if token.startswith("<0x")]]
    for _ in range(400):
        yield [chance.choice(chance.choice(some)) for _ in range(chance.randrange(12))]


def test_texts_are_vllm_s(tokenizer: Any) -> None:
    detokenizer = Detokenizer(tokenizer)
    prompt = tokenizer.encode("Say something.")
    for ids in answers(tokenizer):
        assert detokenizer.text(ids, prompt) == token_by_token(detokenizer, ids, prompt), ids


def test_whole_texts_are_decoded_at_once(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    detokenizer = Detokenizer(tokenizer)
    monkeypatch.setattr(detokenizer, "_by_vllm", None)
    for text in TEXTS:
        assert detokenizer.text(tokenizer.encode(text, add_special_tokens=False), []) == text


def test_a_character_without_all_of_its_bytes_is_left_out(tokenizer: Any) -> None:
    ids = tokenizer.convert_tokens_to_ids(["a", "<0xE2>", "<0x82>"])
    assert Detokenizer(tokenizer).text(ids, []) == "a"


def test_a_decoder_that_looks_at_places_is_vllm_s(tokenizer: Any) -> None:
    """As one that takes the first space away, wherever the answer begins."""
    stripping = SimpleNamespace(
        backend_tokenizer=SimpleNamespace(
            decoder=decoders.Sequence([decoders.Fuse(), decoders.Strip(" ", 1, 0)])
        )
    )
    assert not Detokenizer(stripping)._at_once
    assert Detokenizer(tokenizer)._at_once


def test_an_engine_s_answers_have_the_texts_that_vllm_gives_them() -> None:
    """With ends of every kind: a token, a length, a text."""
    reasons = set()
    with engine(Path(find_model("demo").path)) as llm:
        detokenizer = Detokenizer(llm.get_tokenizer())
        prompts = [{"prompt_token_ids": llm.get_tokenizer().encode(text)} for text in TEXTS]
        for sampling in (
            Sampling(8),
            Sampling(60),
            Sampling(20, temperature=1.5, n=3),
            Sampling(40, stop=("a", "e")),
            Sampling(1, score_tokens=("Yes",)),
        ):
            scored = (300,) if sampling.score_tokens else ()
            ours, theirs = (
                sampling_params(Rendered([1], 1, sampling, (301,), scored), "row") for _ in "12"
            )
            theirs.detokenize = True
            answers = llm.generate(prompts, ours, use_tqdm=False)
            expected = llm.generate(prompts, theirs, use_tqdm=False)
            for answer, known in zip(answers, expected, strict=True):
                reasons |= {
                    (output.finish_reason, bool(output.stop_reason)) for output in known.outputs
                }
                texts = [
                    detokenizer.answer(output, answer.prompt_token_ids, stop=sampling.stop)
                    for output in answer.outputs
                ]
                assert texts == [output.text for output in known.outputs]
    assert reasons == {("stop", True), ("length", False)}
