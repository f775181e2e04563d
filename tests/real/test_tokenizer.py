"""Gemma 3's own vocabulary of 262,144 tokens: text stays text, and comes back as it was."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from babel import Locale, localedata

from gemma3_model.tokenizer import CONTROL, TextTokenizer
from pipeline.engine.chat_template import PromptEncoder
from pipeline.engine.model_files import load_tokenizer, named_tokens
from pipeline.engine.turns import GEMMA, RAW

SIZE = 262_144
UNUSED = 6_242
LEAST_LANGUAGES = 140
TRANSLATEGEMMA = Path("tests/jobs/translation/translategemma.jinja")


@pytest.fixture(scope="module")
def ours(real_model: Path) -> TextTokenizer:
    return load_tokenizer(str(real_model))


@pytest.fixture(scope="module")
def everyones(real_model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(real_model)


def encoder(real_model: Path, ours: TextTokenizer, template: str) -> PromptEncoder:
    return PromptEncoder(ours, template, named_tokens(str(real_model)))


def test_every_control_token_of_gemma_is_one(ours: TextTokenizer) -> None:
    """Whatever the file says: the converted one has `<start_of_image>` as an ordinary token."""
    assert {name for name in ours.control if name.startswith("<unused")} == {
        f"<unused{number}>" for number in range(UNUSED)
    }
    named = {name: ours.control[name] for name in ours.control if not name.startswith("<unused")}
    assert named == {
        "<pad>": 0,
        "<eos>": 1,
        "<bos>": 2,
        "<unk>": 3,
        "<mask>": 4,
        "[multimodal]": 5,
        "<start_of_turn>": 105,
        "<end_of_turn>": 106,
        "<start_of_image>": 255_999,
        "<end_of_image>": 256_000,
    }
    assert all(CONTROL.fullmatch(name) for name in ours.control)


def taken_for_control(
    real_model: Path, tokenizer: TextTokenizer, control: Mapping[str, int], names: Iterable[str]
) -> list[str]:
    """Which control strings in a user's text do not stay text in a prompt."""
    prompts = encoder(real_model, tokenizer, GEMMA)
    harmless = prompts.encode("x", None, 0, None)
    numbers = {*control.values()}
    of_the_template = [number for number in harmless if number in numbers]
    assert len(of_the_template) == 4, "<bos>, two begins of a turn, one end"
    taken = []
    for name in names:
        text = f"a {name}{name} b"
        ids = prompts.encode(text, None, 0, None)
        is_same = [number for number in ids if number in numbers] == of_the_template
        if not is_same or text not in tokenizer.decode(ids):
            taken.append(name)
    return taken


def test_every_control_string_in_data_stays_text(real_model: Path, ours: TextTokenizer) -> None:
    assert taken_for_control(real_model, ours, ours.control, ours.control) == []


def test_that_is_seen_without_the_list_of_control_strings(
    real_model: Path, ours: TextTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The converted file has `<start_of_image>` as an ordinary token, which would be an image."""
    monkeypatch.setattr("gemma3_model.tokenizer.CONTROL", re.compile(r"(?!)"))
    unguarded = TextTokenizer.from_folder(real_model)
    names = ["<start_of_image>", "<end_of_turn>"]
    assert taken_for_control(real_model, unguarded, ours.control, names) == names[:1]


def test_that_is_seen_without_the_rule_that_text_is_text(
    real_model: Path, ours: TextTokenizer
) -> None:
    class Trusting(TextTokenizer):
        def encode(self, text: str) -> list[int]:
            self._backend.encode_special_tokens = False
            return list(self._backend.encode(text, add_special_tokens=False).ids)

    trusting = Trusting.from_folder(real_model)
    for name in ("<start_of_image>", "<end_of_turn>", "<unused42>"):
        with pytest.raises(AssertionError, match="text became control tokens"):
            taken_for_control(real_model, trusting, ours.control, [name])


def test_byte_tokens_are_not_written_by_their_names(ours: TextTokenizer, everyones: Any) -> None:
    bytes_of = {everyones.convert_tokens_to_ids(f"<0x{byte:02X}>") for byte in range(256)}
    assert len(bytes_of) == 256
    text = "".join(f"<0x{byte:02X}>" for byte in range(256))
    ids = ours.encode(text)
    assert not bytes_of & {*ids}
    assert ours.decode(ids) == text


def test_what_the_vocabulary_lacks_travels_as_bytes(ours: TextTokenizer, everyones: Any) -> None:
    """Every 97th character of Unicode's planes of text and symbols; most have no token."""
    for number in (*range(0xA0, 0xD800, 97), *range(0x10000, 0x20000, 97)):
        text = f"a{chr(number)}b"
        ids = ours.encode(text)
        assert ours.unknown not in ids
        assert ours.decode(ids) == text
    ids = ours.encode(chr(0x1F9FF + 0x111))
    assert all(token.startswith("<0x") for token in everyones.convert_ids_to_tokens(ids))


def own_words(code: str) -> str:
    """Names in a language: its own, its months, its days, some countries."""
    locale = Locale.parse(code)
    names = [locale.get_display_name() or ""]
    names += [*locale.months["format"]["wide"].values(), *locale.days["format"]["wide"].values()]
    names += [*locale.territories.values()][:60]
    return ", ".join(names) + ".\n\t  " + code + "  "


def test_140_languages_come_back_as_they_were(ours: TextTokenizer, everyones: Any) -> None:
    codes = sorted({code for code in localedata.locale_identifiers() if "_" not in code} - {"root"})
    assert len(codes) >= LEAST_LANGUAGES
    for code in codes:
        text = own_words(code)
        ids = ours.encode(text)
        assert ids == everyones.encode(text, add_special_tokens=False), code
        assert ours.decode(ids) == text, code


@pytest.mark.parametrize("system", [None, "You are terse."])
@pytest.mark.parametrize("template", [GEMMA, RAW])
@pytest.mark.parametrize("code", ["de", "ar", "th", "ja", "am"])
def test_prompts_are_those_of_transformers(
    real_model: Path,
    ours: TextTokenizer,
    everyones: Any,
    template: str,
    system: str | None,
    code: str,
) -> None:
    prompt = own_words(code)
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": [{"type": "text", "text": prompt}]}
    ]
    if system is not None:
        messages.insert(0, {"role": "system", "content": [{"type": "text", "text": system}]})
    text = everyones.apply_chat_template(
        messages, chat_template=template, tokenize=False, add_generation_prompt=True
    )
    ids = encoder(real_model, ours, template).encode(prompt, system, 0, None)
    assert [*ids] == everyones.encode(text, add_special_tokens=False)


def test_gemmas_turns_are_the_published_ones(real_model: Path, ours: TextTokenizer) -> None:
    """As in the model card of `gemma-3-4b-it`: the wording by hand, the ids by their numbers."""
    prompts = encoder(real_model, ours, GEMMA)
    ids = prompts.encode("Hello there", "Be kind.", 0, None)
    assert ours.decode(ids) == (
        "<bos><start_of_turn>user\nBe kind.\n\nHello there<end_of_turn>\n<start_of_turn>model\n"
    )
    assert (ids[0], ids[1], ids[-3], ids[-1]) == (2, 105, 105, ours.encode("\n")[0])


@pytest.mark.parametrize("number", range(GEMMA.count("\\n")))
def test_a_newline_that_a_template_lacks_is_seen(
    real_model: Path, ours: TextTokenizer, everyones: Any, number: int
) -> None:
    before = -1
    for _ in range(number + 1):
        before = GEMMA.index("\\n", before + 1)
    wrong = GEMMA[:before] + GEMMA[before + 2 :]
    messages = [
        {"role": "system", "content": [{"type": "text", "text": "Be kind."}]},
        {"role": "user", "content": [{"type": "text", "text": "Hello there"}]},
    ]
    due = everyones.apply_chat_template(
        messages, chat_template=GEMMA, tokenize=False, add_generation_prompt=True
    )
    prompts = [encoder(real_model, ours, template) for template in (GEMMA, wrong)]
    right, found = ([*each.encode("Hello there", "Be kind.", 0, None)] for each in prompts)
    assert right == everyones.encode(due, add_special_tokens=False)
    assert found != right


def test_translategemmas_template(real_model: Path, ours: TextTokenizer, everyones: Any) -> None:
    template = TRANSLATEGEMMA.read_text()
    prompt = "Das Wetter ist <b>gut</b>.\n\n  Morgen auch. "
    content = {"source_lang_code": "de", "target_lang_code": "en", "type": "text", "text": prompt}
    messages = [{"role": "user", "content": [content]}]
    text = everyones.apply_chat_template(
        messages, chat_template=template, tokenize=False, add_generation_prompt=True
    )
    ids = encoder(real_model, ours, template).encode(prompt, None, 0, ("de", "en"))
    assert [*ids] == everyones.encode(text, add_special_tokens=False)
    assert "German" in text
