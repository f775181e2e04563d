"""What is said of a model from the files in its folder, without loading it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.contract.errors import UserError
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


def test_a_folder_without_a_template(tmp_path: Path) -> None:
    assert profile(tmp_path).chat_template == ""
    (tmp_path / "tokenizer_config.json").write_text("{}")
    assert profile(tmp_path).chat_template == ""


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
@pytest.mark.parametrize(
    ("content", "told"), [("{", "cannot be read"), ("[]", "is not a JSON object")]
)
def test_a_broken_file_is_named(tmp_path: Path, name: str, content: str, told: str) -> None:
    profile(tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=f"{name}.* {told}"):
        read_profile(str(tmp_path))
