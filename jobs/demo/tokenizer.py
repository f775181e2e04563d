"""Decides the bundled model's vocabulary: a small SentencePiece model with the layout of Gemma's.

It is a byte-pair encoding with byte fallback, split digits, no dummy prefix and white space kept,
trained on the words of `phrases`; Gemma's special tokens come first. This module writes the
SentencePiece model, the same vocabulary for the `tokenizers` library, the processor's settings and
the chat template.
"""

import argparse
import io
import itertools
import string
from collections.abc import Iterator
from pathlib import Path

import sentencepiece as spm
from tokenizers import AddedToken
from transformers import Gemma3ImageProcessorPil, Gemma3Processor, GemmaTokenizer

from jobs.demo.drawings import sample_scene
from jobs.demo.phrases import (
    CAPTION_PROMPT,
    LANGUAGES,
    MODERATION_PROMPT,
    POLICIES,
    caption,
    translation,
    translation_prompt,
)

VOCAB_SIZE = 1024
IMAGE_SIZE = 112  # pixels along each side of the model's image
SOFT_TOKENS = 16  # tokens an image becomes
START_OF_TURN, END_OF_TURN = "<start_of_turn>", "<end_of_turn>"
START_OF_IMAGE, END_OF_IMAGE, SOFT_TOKEN = (
    "<start_of_image>",
    "<end_of_image>",
    "<image_soft_token>",
)
CONTROL_TOKENS = (START_OF_TURN, END_OF_TURN, START_OF_IMAGE, END_OF_IMAGE, SOFT_TOKEN)
NEWLINES = tuple("\n" * n for n in range(1, 5))
CHAT_TEMPLATE = Path(__file__).with_name("chat_template.jinja")
REPEATED_COLOUR = "No Repeated Colour: The image shall not contain two shapes of the same colour."
"""A policy of earlier drawings. The vocabulary was trained on it, and would change without it."""
POLICY_TEXTS = (*(policy.text for policy in POLICIES), REPEATED_COLOUR)
_ACCENTED = "äöüßÄÖÜàâçéèêëîïôùûœÀÇÉÈŒáíóúñÁÍÓÚÑ¿¡«»„“”…€"
_ALPHABET = " ".join(string.printable.strip() + _ACCENTED)  # every letter that gets a piece


def corpus() -> Iterator[str]:
    """The lines that the vocabulary is trained on: every phrase of the demonstration.

    The prompts' lines are repeated often enough for their words to become pieces.
    """
    scenes = [sample_scene(seed, repeat_colours=True) for seed in range(4000)]
    for scene in scenes:
        yield caption(scene)
        yield from (translation(scene, language) for language in LANGUAGES)
    yield from [CAPTION_PROMPT, "Yes", "No", "user", "model"] * 500
    prompts = [_ALPHABET]
    prompts += [translation_prompt("", language) for language in LANGUAGES]
    prompts += [MODERATION_PROMPT.format(policy=text) for text in POLICY_TEXTS]
    lines = itertools.chain.from_iterable(prompt.split("\n") for prompt in prompts)
    yield from (line for line in list(lines) * 50 if line)


def train_sentencepiece() -> bytes:
    """The serialised SentencePiece model, the same each time."""
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=corpus(),
        model_writer=model,
        model_type="bpe",
        vocab_size=VOCAB_SIZE,
        byte_fallback=True,
        split_digits=True,
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        character_coverage=1.0,
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        pad_piece="<pad>",
        eos_piece="<eos>",
        bos_piece="<bos>",
        unk_piece="<unk>",
        user_defined_symbols=[*CONTROL_TOKENS, *NEWLINES],
        hard_vocab_limit=False,
        num_threads=1,
        minloglevel=1,
    )
    return model.getvalue()


def merges(model: spm.SentencePieceProcessor) -> list[tuple[str, str]]:
    """The pairs that `tokenizers` merges, best first: every two pieces that make a learned one."""
    learned = {
        model.IdToPiece(i): i for i in range(model.GetPieceSize()) if not _is_reserved(model, i)
    }
    pairs = []
    for piece, rank in learned.items():
        cuts = ((piece[:i], piece[i:]) for i in range(1, len(piece)))
        halves = [(left, right) for left, right in cuts if left in learned and right in learned]
        pairs += [(-model.GetScore(rank), learned[a], learned[b], a, b) for a, b in halves]
    return [(left, right) for _, _, _, left, right in sorted(pairs)]


def _is_reserved(model: spm.SentencePieceProcessor, token: int) -> bool:
    """Whether `token` is a control token, a run of newlines, a byte or unknown."""
    return bool(
        model.IsControl(token)
        or model.IsUnknown(token)
        or model.IsByte(token)
        or model.IdToPiece(token) in (*CONTROL_TOKENS, *NEWLINES)
    )


def build_tokenizer(model: spm.SentencePieceProcessor) -> GemmaTokenizer:
    """`model` as transformers' Gemma tokenizer, with Gemma's control tokens marked as special."""
    tokenizer = GemmaTokenizer(
        vocab={model.IdToPiece(i): i for i in range(model.GetPieceSize())},
        merges=merges(model),
        mask_token=None,
        add_bos_token=True,
        extra_special_tokens={
            "boi_token": START_OF_IMAGE,
            "eoi_token": END_OF_IMAGE,
            "image_token": SOFT_TOKEN,
        },
        model_max_length=1024,
        clean_up_tokenization_spaces=False,
        spaces_between_special_tokens=False,
    )
    turns = [AddedToken(t, normalized=False, special=True) for t in (START_OF_TURN, END_OF_TURN)]
    tokenizer.add_tokens(turns, special_tokens=True)
    tokenizer.add_tokens([AddedToken(n, normalized=False, special=False) for n in NEWLINES])
    return tokenizer


def build_processor(tokenizer: GemmaTokenizer) -> Gemma3Processor:
    """The Gemma 3 processor for `tokenizer` and the bundled model's image size."""
    images = Gemma3ImageProcessorPil(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE})
    template = CHAT_TEMPLATE.read_text(encoding="utf-8")
    return Gemma3Processor(images, tokenizer, template, image_seq_length=SOFT_TOKENS)


def write_processor(folder: Path) -> Gemma3Processor:
    """Train the vocabulary, and write all but the weights and their configuration to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    serialised = train_sentencepiece()
    model = spm.SentencePieceProcessor(model_proto=serialised)
    processor = build_processor(build_tokenizer(model))
    processor.save_pretrained(folder)
    processor.image_processor.save_pretrained(folder)
    (folder / "tokenizer.model").write_bytes(serialised)
    return processor


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder to write to")
    write_processor(parser.parse_args().out)
