"""On the bundled model's tokenizer, which has Gemma's control tokens and template."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import pytest

from pipeline.engine.chat_template import PromptEncoder
from pipeline.engine.turns import GEMMA, RAW

CONTROL = [
    "<bos>",
    "<eos>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<start_of_image>",
    "<image_soft_token>",
]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(files("jobs.demo") / "checkpoint"))


def ordinary(tokenizer: Any, prompt: str, system: str | None, images: int) -> list[int]:
    """What everyone else does: fill the template, then tokenize what came out."""
    content = [{"type": "image"}] * images + [{"type": "text", "text": prompt}]
    messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": [{"type": "text", "text": system}]})
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return ids


@pytest.mark.parametrize("images", [0, 1, 3])
@pytest.mark.parametrize("system", [None, "You are terse."])
@pytest.mark.parametrize(
    "prompt",
    [
        "Describe this image in one sentence.",
        "  spaces around, and  two inside \n",
        "lines\n\nand more\n\n\nlines\tand a tab",
        "héllo, Füße, 你好 👩‍🚀 \u200f\u05e9\u05dc",
        "<notatoken> <b>bold</b> 3 < 4 & {placeholder} %s",
        "\uf8f0text1\uf8f1 and \uf8f0text0\uf8f1",  # our own marks, in a text
        "x",
    ],
)
def test_harmless_text_is_tokenized_as_everyone_does(
    tokenizer: Any, prompt: str, system: str | None, images: int
) -> None:
    ids = PromptEncoder(tokenizer).encode(prompt, system, images)
    assert [*ids] == ordinary(tokenizer, prompt, system, images)


@pytest.mark.parametrize("control", CONTROL)
def test_control_strings_in_text_stay_text(tokenizer: Any, control: str) -> None:
    encoder = PromptEncoder(tokenizer)
    harmless = encoder.encode("Describe", "Be terse.", 1)
    number = tokenizer.convert_tokens_to_ids(control)
    for prompt, system in (
        (f"a {control} b", "Be terse."),
        ("Describe", f"x{control}y"),
        (control, None),
    ):
        ids = encoder.encode(prompt, system, 1)
        assert ids.count(number) == harmless.count(number)
        # It is there as text, though: decoding gives the words back.
        assert control in tokenizer.decode(ids[1:], skip_special_tokens=True)
        assert [*ids] != ordinary(tokenizer, prompt, system, 1)


def test_a_template_that_loses_a_text_is_refused(tokenizer: Any) -> None:
    class Forgetful:
        added_tokens_decoder = tokenizer.added_tokens_decoder
        unk_token_id = tokenizer.unk_token_id

        def apply_chat_template(self, *_: object, **__: object) -> str:
            return "<bos>nothing<end_of_turn>"

        def encode(self, text: str, **options: object) -> list[int]:
            raise AssertionError("not reached")

    with pytest.raises(ValueError, match="holds a text 0 times"):
        PromptEncoder(Forgetful()).encode("x", None, 0)


def test_a_constant_prompt_is_encoded_once(tokenizer: Any) -> None:
    encoder = PromptEncoder(tokenizer)
    assert encoder.encode("same", None, 1) is encoder.encode("same", None, 1)


def test_the_end_of_a_turn_is_known_by_its_id(tokenizer: Any) -> None:
    encoder = PromptEncoder(tokenizer)
    assert encoder.ids_of("<end_of_turn>") == (tokenizer.convert_tokens_to_ids("<end_of_turn>"),)
    assert encoder.ids_of("<no_such_control>") == ()


@pytest.mark.parametrize("images", [0, 2])
@pytest.mark.parametrize("system", [None, " You are terse.\n"])
@pytest.mark.parametrize("prompt", ["Describe this.", "  two\n\nlines ", "a <end_of_turn> b"])
def test_gemmas_turns_are_those_of_the_bundled_model(
    tokenizer: Any, prompt: str, system: str | None, images: int
) -> None:
    ours = PromptEncoder(tokenizer, GEMMA).encode(prompt, system, images)
    assert ours == PromptEncoder(tokenizer).encode(prompt, system, images)
    assert ours.count(tokenizer.convert_tokens_to_ids("<end_of_turn>")) == 1


def test_raw_text_is_as_it_is(tokenizer: Any) -> None:
    encoder = PromptEncoder(tokenizer, RAW, trims=False)
    begin, image = map(tokenizer.convert_tokens_to_ids, ("<bos>", "<start_of_image>"))

    def plain(text: str) -> list[int]:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
        return ids

    assert [*encoder.encode("a red", None, 0)] == [begin, *plain("a red")]
    assert [*encoder.encode(" a red \n", None, 0)] == [begin, *plain(" a red \n")]
    assert [*encoder.encode("a red", None, 2)] == [begin, image, image, *plain("a red")]
    with_system = encoder.encode("a red", "Two circles.", 1)
    assert [*with_system] == [begin, *plain("Two circles.\n\n"), image, *plain("a red")]
    assert [*encoder.encode("", None, 1)] == [begin, image]


@pytest.mark.parametrize("control", CONTROL)
def test_control_strings_in_raw_text_stay_text(tokenizer: Any, control: str) -> None:
    ids = PromptEncoder(tokenizer, RAW, trims=False).encode(f"a {control} b", None, 0)
    number = tokenizer.convert_tokens_to_ids(control)
    assert ids.count(number) == (control == "<bos>")
    assert control in tokenizer.decode(ids[1:], skip_special_tokens=True)


def test_a_word_continues_a_text_with_the_space_before_it(tokenizer: Any) -> None:
    class Words:
        """Of these, ` Yes` and ` No` are tokens as `Yes` and `No` are; ` Perhaps` is none."""

        added_tokens_decoder = tokenizer.added_tokens_decoder
        unk_token_id = tokenizer.unk_token_id

        def encode(self, text: str, **_: object) -> list[int]:
            ids = {"Yes": 100, " Yes": 101, "No": 102, " No": 103, "Perhaps": 104}
            return [ids[text]] if text in ids else [1000, 1001]

        def apply_chat_template(self, *_: object, **__: object) -> str:
            raise AssertionError("not reached")

    encoder = PromptEncoder(Words())
    assert encoder.next_token_ids(("Yes", "No"), "Answer:") == (101, 103)
    assert encoder.next_token_ids(("Yes", "No"), "Answer: ") == (100, 102)
    assert encoder.next_token_ids(("Yes", "Perhaps"), "Answer:") == (100, 104)
    with pytest.raises(ValueError, match="not one"):
        encoder.next_token_ids(("Maybe",), "Answer:")
