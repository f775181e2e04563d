"""On the bundled model's tokenizer, which has Gemma's control tokens and template."""

from __future__ import annotations

from typing import Any

import pytest
from jinja2 import TemplateError

from gemma3_model.tokenizer import TextTokenizer
from pipeline.engine.chat_template import REMEMBERED, PromptEncoder
from pipeline.engine.model_files import load_tokenizer, model_folder, named_tokens
from pipeline.engine.profile import read_profile
from pipeline.engine.turns import GEMMA, RAW

CONTROL = [
    "<bos>",
    "<eos>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<start_of_image>",
    "<image_soft_token>",
]


MODEL = "demo"
TEMPLATE = read_profile(MODEL).chat_template
NAMED = named_tokens(MODEL)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """Everyone's."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model_folder(MODEL))


@pytest.fixture(scope="module")
def ours() -> TextTokenizer:
    return load_tokenizer(MODEL)


def encoder_of(tokenizer: Any, template: str = TEMPLATE) -> PromptEncoder:
    return PromptEncoder(tokenizer, template, NAMED)


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
    tokenizer: Any, ours: TextTokenizer, prompt: str, system: str | None, images: int
) -> None:
    ids = encoder_of(ours).encode(prompt, system, images)
    assert [*ids] == ordinary(tokenizer, prompt, system, images)


def test_a_template_is_filled_once_for_texts_of_one_form(
    tokenizer: Any, ours: TextTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = encoder_of(ours)
    encoder.encode("one", "You are terse.")
    monkeypatch.setattr(encoder, "_template", None)
    for prompt, system in (("two", "You are kind."), ("\uf8f0text0\uf8f1", "x")):
        assert [*encoder.encode(prompt, system)] == ordinary(tokenizer, prompt, system, 0)


def test_a_template_with_the_time_is_filled_each_time(
    ours: TextTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = encoder_of(ours, "{{ strftime_now('%H:%M') }}" + TEMPLATE)
    times = iter(["09:59", "10:00"])
    monkeypatch.setitem(encoder._template.globals, "strftime_now", lambda _: next(times))
    first, later = (ours.decode(encoder.encode(prompt)) for prompt in ("a", "b"))
    assert (first[:5], later[:5]) == ("09:59", "10:00")


@pytest.mark.parametrize("control", CONTROL)
def test_control_strings_in_text_stay_text(
    tokenizer: Any, ours: TextTokenizer, control: str
) -> None:
    encoder = encoder_of(ours)
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


def test_a_template_that_loses_a_text_is_refused(ours: TextTokenizer) -> None:
    with pytest.raises(ValueError, match="holds a text 0 times"):
        encoder_of(ours, "<bos>nothing<end_of_turn>").encode("x", None, 0)


def test_a_template_may_refuse_and_use_what_transformers_offers(ours: TextTokenizer) -> None:
    refusing = encoder_of(ours, "{{ raise_exception('no such language') }}")
    with pytest.raises(TemplateError, match="no such language"):
        refusing.encode("x", None, 0)
    template = (
        "{{ eos_token }}{% for m in messages %}\n  {% if loop.index > 1 %}{% break %}{% endif %}"
        "{{ m.content[0].text }}{{ {'ä': 1} | tojson }}{{ strftime_now('%Y')[:2] }}{% endfor %}"
    )
    ids = encoder_of(ours, template).encode("x", None, 0)
    assert ours.decode(ids) == '<eos>x{"ä": 1}20'


def test_a_template_knows_no_tools_and_may_mark_what_is_trained_on(ours: TextTokenizer) -> None:
    template = (
        "{% if tools is not none or documents is not none %}wrong{% endif %}"
        "{% for m in messages %}{% generation %}{{ m.content[0].text }}{% endgeneration %}"
        "{% endfor %}"
    )
    assert ours.decode(encoder_of(ours, template).encode(" x y ", None, 0)) == " x y "


def test_white_space_stays_where_the_template_leaves_it(ours: TextTokenizer) -> None:
    template = "{% for m in messages %}[{{ m.content[0].text | trim }}|{{ m.role }}]{% endfor %}"
    assert ours.decode(encoder_of(ours, template).encode("\n a ", " b", 0)) == "[b|system][a|user]"
    kept = template.replace(" | trim", "")
    assert ours.decode(encoder_of(ours, kept).encode("\n a ", " b", 0)) == "[ b|system][\n a |user]"


def test_a_constant_prompt_is_encoded_once(ours: TextTokenizer) -> None:
    encoder = encoder_of(ours)
    assert encoder.encode("same", None, 1) is encoder.encode("same", None, 1)


def test_the_end_of_a_turn_is_known_by_its_id(tokenizer: Any, ours: TextTokenizer) -> None:
    encoder = encoder_of(ours)
    assert encoder.ids_of("<end_of_turn>") == (tokenizer.convert_tokens_to_ids("<end_of_turn>"),)
    assert encoder.ids_of("<no_such_control>") == ()


@pytest.mark.parametrize("images", [0, 2])
@pytest.mark.parametrize("system", [None, " You are terse.\n"])
@pytest.mark.parametrize("prompt", ["Describe this.", "  two\n\nlines ", "a <end_of_turn> b"])
def test_gemmas_turns_are_those_of_the_bundled_model(
    tokenizer: Any, ours: TextTokenizer, prompt: str, system: str | None, images: int
) -> None:
    ids = encoder_of(ours, GEMMA).encode(prompt, system, images)
    assert ids == encoder_of(ours).encode(prompt, system, images)
    assert ids.count(tokenizer.convert_tokens_to_ids("<end_of_turn>")) == 1


def test_raw_text_is_as_it_is(tokenizer: Any, ours: TextTokenizer) -> None:
    encoder = encoder_of(ours, RAW)
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
def test_control_strings_in_raw_text_stay_text(
    tokenizer: Any, ours: TextTokenizer, control: str
) -> None:
    ids = encoder_of(ours, RAW).encode(f"a {control} b", None, 0)
    number = tokenizer.convert_tokens_to_ids(control)
    assert ids.count(number) == (control == "<bos>")
    assert control in tokenizer.decode(ids[1:], skip_special_tokens=True)


def test_a_word_continues_a_text_with_the_space_before_it(ours: TextTokenizer) -> None:
    class Words:
        """Of these, ` Yes` and ` No` are tokens as `Yes` and `No` are; ` Perhaps` is none."""

        control = ours.control
        unknown = ours.unknown

        def encode(self, text: str) -> list[int]:
            ids = {"Yes": 100, " Yes": 101, "No": 102, " No": 103, "Perhaps": 104}
            return [ids[text]] if text in ids else [1000, 1001]

    encoder = encoder_of(Words())
    assert encoder.next_token_ids(("Yes", "No"), "Answer:") == (101, 103)
    assert encoder.next_token_ids(("Yes", "No"), "Answer: ") == (100, 102)
    assert encoder.next_token_ids(("Yes", "Perhaps"), "Answer:") == (100, 104)
    with pytest.raises(ValueError, match="not one"):
        encoder.next_token_ids(("Maybe",), "Answer:")


@pytest.mark.parametrize("template", [TEMPLATE, GEMMA, RAW])
def test_text_before_an_image_is_text(tokenizer: Any, ours: TextTokenizer, template: str) -> None:
    """Also where it holds a control string; and an image without it has none."""
    encoder = encoder_of(ours, template)
    image = tokenizer.convert_tokens_to_ids("<start_of_image>")
    labels = ("First:", "", "<start_of_image> 3:")
    ids = encoder.encode("Which?", None, 3, None, labels)
    assert ids.count(image) == 3
    decoded = tokenizer.decode([*ids])
    assert "First:<start_of_image><start_of_image><start_of_image> 3:<start_of_image>" in decoded
    assert ids == encoder.encode("Which?", None, 3, None, labels)
    assert encoder.encode("Which?", None, 3, None, ("", "", "")) == encoder.encode(
        "Which?", None, 3
    )


def test_long_prompts_are_not_remembered(ours: TextTokenizer) -> None:
    """They are the rows' own texts, and would fill the renderer's memory."""
    encoder = encoder_of(ours)
    for number in range(3):
        encoder.encode(f"{number} " + "word " * (REMEMBERED // 5))
    assert encoder._remembered.cache_info().currsize == 0
    for _ in range(3):
        encoder.encode("Describe this image.", None, 1)
    assert encoder._remembered.cache_info().hits == 2


def test_a_text_that_is_counted_again_is_not_encoded_again(ours: TextTokenizer) -> None:
    encoder = encoder_of(ours)
    long = "word " * REMEMBERED
    assert [encoder.count("one two") for _ in range(3)] == [len(ours.encode("one two"))] * 3
    assert encoder.count(long) == len(ours.encode(long))
    found = encoder._counted.cache_info()
    assert (found.hits, found.currsize) == (2, 1)
