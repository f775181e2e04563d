"""The vocabulary behaves as Gemma's: special tokens, newlines, bytes, SentencePiece parity."""

from pathlib import Path

import pytest
import sentencepiece as spm
from jinja2.exceptions import TemplateError
from transformers import AutoTokenizer, GemmaTokenizer

from jobs.demo.drawings import sample_scene
from jobs.demo.evaluate import CHECKPOINT
from jobs.demo.phrases import LANGUAGES, POLICIES, caption, moderation_prompt, translation
from jobs.demo.tokenizer import CONTROL_TOKENS, NEWLINES, write_processor

TEXTS = [
    *(caption(sample_scene(seed)) for seed in range(50)),
    *(translation(sample_scene(seed), lang) for seed in range(50) for lang in LANGUAGES),
    *map(moderation_prompt, POLICIES),
    "two  spaces, tabs\tand 2026 digits\n\n\n\n\nand 漢字 🙂",
    " leading and trailing ",
]


@pytest.fixture(scope="module")
def tokenizer() -> GemmaTokenizer:
    return AutoTokenizer.from_pretrained(CHECKPOINT)


@pytest.mark.parametrize("text", TEXTS)
def test_text_survives_and_agrees_with_sentencepiece(tokenizer: GemmaTokenizer, text: str) -> None:
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert tokenizer.decode(ids) == text
    model = spm.SentencePieceProcessor(model_file=str(CHECKPOINT / "tokenizer.model"))
    assert ids == model.Encode(text)


def test_control_tokens_and_newlines_are_single_tokens(tokenizer: GemmaTokenizer) -> None:
    for token in (*CONTROL_TOKENS, *NEWLINES, "Yes", "No", "user", "model"):
        assert len(tokenizer.encode(token, add_special_tokens=False)) == 1
    ids = tokenizer.convert_tokens_to_ids(["<pad>", "<eos>", "<bos>", "<unk>"])
    assert ids == [0, 1, 2, 3]
    assert tokenizer.encode("a")[0] == tokenizer.bos_token_id


@pytest.mark.parametrize("token", [*CONTROL_TOKENS, "<bos>", "<eos>", "<pad>"])
def test_control_tokens_in_data_can_be_read_as_text(tokenizer: GemmaTokenizer, token: str) -> None:
    ids = tokenizer.encode(f"a {token} b", add_special_tokens=False, split_special_tokens=True)
    assert tokenizer.convert_tokens_to_ids(token) not in ids
    assert tokenizer.decode(ids) == f"a {token} b"


def test_the_template_is_gemmas(tokenizer: GemmaTokenizer) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": " What? "}]},
        {"role": "assistant", "content": "A star. "},
        {"role": "user", "content": "Sure?"},
    ]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == (
        "<bos><start_of_turn>user\nBe brief.\n\n<start_of_image>What?<end_of_turn>\n"
        "<start_of_turn>model\nA star.<end_of_turn>\n"
        "<start_of_turn>user\nSure?<end_of_turn>\n<start_of_turn>model\n"
    )
    with pytest.raises(TemplateError, match="alternate"):
        tokenizer.apply_chat_template(messages[2:], tokenize=False)


def test_the_committed_vocabulary_is_the_one_the_script_makes(tmp_path: Path) -> None:
    write_processor(tmp_path)
    for file in tmp_path.iterdir():
        assert file.read_bytes() == (CHECKPOINT / file.name).read_bytes(), file.name
