"""What is said of a model from the files in its folder, without loading it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.contract.errors import UserError
from pipeline.engine.model_files import BUNDLED
from pipeline.engine.profile import ModelProfile, read_profile

TRANSLATES = "{%- set names = {'de': 'German', \"pt-BR\": 'Portuguese'} -%}{{ source_lang_code }}"
JUDGES = "{{ bos_token }}<BEGIN_SAFETY_POLICY>{{ text }}</END_SAFETY_POLICY>"


def profile(folder: Path, template: str | None = None, **config: Any) -> ModelProfile:
    """Of a folder with this configuration and template."""
    config = {"architectures": ["Gemma3ForConditionalGeneration"], **config}
    (folder / "config.json").write_text(json.dumps(config))
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    return read_profile(str(folder))


def test_a_plain_gemma_asks_nothing_special(tmp_path: Path) -> None:
    plain = profile(tmp_path, "<start_of_turn>user\n{{ text }}<end_of_turn>")
    assert plain.has_vision
    assert plain.end_of_turn == "<end_of_turn>"
    asked = (plain.asks_languages, plain.knows_language("de"), plain.wraps_policy)
    assert (*asked, plain.is_shieldgemma2) == (False,) * 4
    assert plain.verdict_token_ids == {}


def test_a_model_of_texts_has_no_vision(tmp_path: Path) -> None:
    assert not profile(tmp_path, architectures=["Other", "Gemma3ForCausalLM"]).has_vision


@pytest.mark.parametrize(
    ("config", "longest"),
    [
        ({"text_config": {"max_position_embeddings": 32768}}, 32768),
        ({"max_position_embeddings": 512}, 512),  # of a model of texts
        ({"text_config": {}}, 131072),
    ],
)
def test_the_longest_sequence(tmp_path: Path, config: dict[str, Any], longest: int) -> None:
    assert profile(tmp_path, **config).max_positions == longest


def test_a_translators_template_names_its_languages(tmp_path: Path) -> None:
    translator = profile(tmp_path, TRANSLATES)
    assert translator.asks_languages
    known = [
        code for code in ("de", "pt-BR", "pt_BR", "pt", "en") if translator.knows_language(code)
    ]
    assert known == ["de", "pt-BR", "pt_BR"]


def test_a_judge_is_known_by_its_template_or_its_class(tmp_path: Path) -> None:
    by_template = profile(tmp_path, JUDGES)
    assert by_template.wraps_policy
    assert by_template.is_shieldgemma2
    by_class = profile(tmp_path, "", architectures=["ShieldGemma2ForImageClassification"])
    assert not by_class.wraps_policy
    assert by_class.is_shieldgemma2


def test_the_tokens_of_a_verdict_are_the_configurations(tmp_path: Path) -> None:
    judge = profile(tmp_path, yes_token_index=7, no_token_index=9)
    assert judge.verdict_token_ids == {"Yes": 7, "No": 9}
    assert profile(tmp_path, no_token_index=9).verdict_token_ids == {"No": 9}


def test_the_processors_template_comes_before_the_tokenizers(tmp_path: Path) -> None:
    found = []
    for name in ("tokenizer_config", "processor_config", "chat_template"):
        (tmp_path / f"{name}.json").write_text(json.dumps({"chat_template": name}))
        found.append(profile(tmp_path).chat_template)
    found.append(profile(tmp_path, "jinja").chat_template)
    assert found == ["tokenizer_config", "processor_config", "chat_template", "jinja"]


def test_of_several_templates_the_default_is_taken(tmp_path: Path) -> None:
    named = [{"name": name, "template": f"the {name}"} for name in ("tool_use", "default")]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    assert profile(tmp_path).chat_template == "the default"


def test_a_folder_without_a_template(tmp_path: Path) -> None:
    assert profile(tmp_path).chat_template == ""
    (tmp_path / "tokenizer_config.json").write_text("{}")
    assert profile(tmp_path).chat_template == ""


END_OF_TURN, END = 5, 1
"""Ids of the bundled tokenizer, in other places than Gemma's own."""


def without_a_template(folder: Path, **generation: Any) -> ModelProfile:
    shutil.copy(BUNDLED["demo"] / "tokenizer.json", folder)
    if generation:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    return profile(folder, eos_token_id=END)


def test_by_default_a_models_own_template_is_used(tmp_path: Path) -> None:
    own = profile(tmp_path, TRANSLATES).prompted(None, "m")
    assert (own.prompt_format, own.template, own.asks_languages) == ("template", TRANSLATES, True)


def test_a_tuned_model_without_a_template_has_gemmas_turns(tmp_path: Path) -> None:
    tuned = without_a_template(tmp_path, eos_token_id=[END, END_OF_TURN]).prompted(None, "m")
    assert tuned.prompt_format == "gemma"
    assert "<start_of_turn>" in tuned.template
    assert not tuned.continues_text


@pytest.mark.parametrize("generation", [{}, {"eos_token_id": END}, {"eos_token_id": [END, 106]}])
def test_a_base_model_is_refused_unless_it_is_said_how_to_prompt_it(
    tmp_path: Path, generation: dict[str, Any]
) -> None:
    base = without_a_template(tmp_path, **generation)
    with pytest.raises(UserError, match=r"model m is a base model.*--prompt-format raw"):
        base.prompted(None, "m")
    with pytest.raises(UserError, match=r"m has no chat template.*--prompt-format raw"):
        base.prompted("template", "m")
    assert base.prompted("raw", "m").continues_text
    assert base.prompted("gemma", "m").prompt_format == "gemma"


def test_in_another_format_a_template_asks_nothing(tmp_path: Path) -> None:
    assert not profile(tmp_path, TRANSLATES).prompted("gemma", "m").asks_languages
    judge = profile(tmp_path, JUDGES).prompted("raw", "m")
    assert not judge.wraps_policy
    assert judge.is_shieldgemma2  # it is what it was trained to be


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
@pytest.mark.parametrize(
    ("content", "told"), [("{", "cannot be read"), ("[]", "is not a JSON object")]
)
def test_a_broken_file_is_named(tmp_path: Path, name: str, content: str, told: str) -> None:
    profile(tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=f"{name}.* {told}"):
        read_profile(str(tmp_path))
