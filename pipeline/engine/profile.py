"""What decides how a model is prompted, read once from its folder.

Every question about a model is answered here: which Gemma 3 it is, what its chat template asks for,
and which tokens it ends or judges with. The driver asks too, so this needs neither torch nor vLLM.
To support another model family, begin with `ARCHITECTURES`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.contract.errors import UserError

SHIELDGEMMA2 = "ShieldGemma2ForImageClassification"
ARCHITECTURES = {
    "Gemma3ForConditionalGeneration": True,
    "Gemma3ForCausalLM": False,
    SHIELDGEMMA2: True,
}
"""Architectures the engine runs, and whether each has a vision tower."""
DEFAULT_MAX_POSITIONS = 131_072
"""Transformers' default; the hub's configuration of the 4B model leaves the value out."""
END_OF_TURN = "<end_of_turn>"
LANGUAGE_FIELD = "source_lang_code"
"""Field of a message that TranslateGemma's chat template reads."""
LANGUAGE_KEY = re.compile(r"""["']([a-z]{2,3}(?:[-_][A-Za-z0-9]{2,8})*)["']\s*:\s*["']""")
"""A language's code as a key of the dictionary in that template."""
POLICY_START = "<BEGIN_SAFETY_POLICY>"
"""In ShieldGemma 2's chat template, before the policy."""
VERDICT_FIELDS = {"Yes": "yes_token_index", "No": "no_token_index"}
"""Fields of ShieldGemma 2's configuration."""


@dataclass(frozen=True, kw_only=True)
class ModelProfile:
    """What there is to know about a model without loading it.

    Attributes:
        architecture: The class name in its `config.json`; one of `ARCHITECTURES`.
        max_positions: The longest sequence it supports, in tokens.
        chat_template: Its chat template, in Jinja; empty if it has none.
        end_of_turn: Control string that ends the model's turn. The configuration of some
            checkpoints (TranslateGemma) names only `<eos>`, which they never write.
        verdict_token_ids: Ids of the tokens for "Yes" and "No", where the configuration names them
            (ShieldGemma 2).
    """

    architecture: str
    max_positions: int
    chat_template: str = ""
    end_of_turn: str = END_OF_TURN
    verdict_token_ids: Mapping[str, int] = field(default_factory=dict)

    @property
    def has_vision(self) -> bool:
        """Whether it takes images."""
        return ARCHITECTURES[self.architecture]

    @property
    def asks_languages(self) -> bool:
        """Whether its chat template takes the codes of two languages, as TranslateGemma's does."""
        return LANGUAGE_FIELD in self.chat_template

    def knows_language(self, code: str) -> bool:
        """Whether such a chat template has a name for this code (`de`, `pt-BR` or `pt_BR`)."""
        codes = {key.replace("_", "-") for key in LANGUAGE_KEY.findall(self.chat_template)}
        return code.replace("_", "-") in codes

    @property
    def wraps_policy(self) -> bool:
        """Whether its chat template asks about a policy in its own words, around the policy."""
        return POLICY_START in self.chat_template

    @property
    def is_shieldgemma2(self) -> bool:
        """Whether it was trained to judge images, by its class or by its chat template."""
        return self.wraps_policy or self.architecture == SHIELDGEMMA2


def read_profile(model: str) -> ModelProfile:
    """Read the profile of a model.

    Args:
        model: Its folder, as the user named it.

    Raises:
        UserError: The folder or its `config.json` is missing, a file cannot be read, or the model
            is not a Gemma 3.
    """
    path = Path(model).expanduser()
    if not path.is_dir():
        raise UserError(
            f"model {model} is not a folder here; give --model the folder of a downloaded "
            "Gemma 3 checkpoint, or 'demo' for the bundled one"
        )
    if not (path / "config.json").exists():
        raise UserError(f"model {model} has no config.json; is it a checkpoint's folder?")
    config = _read_json(model, path / "config.json")
    text_config = config.get("text_config", config)
    verdicts = {word: config.get(name) for word, name in VERDICT_FIELDS.items()}
    return ModelProfile(
        architecture=_architecture(model, config),
        max_positions=int(text_config.get("max_position_embeddings", DEFAULT_MAX_POSITIONS)),
        chat_template=_chat_template(model, path),
        verdict_token_ids={word: token for word, token in verdicts.items() if token is not None},
    )


def _read_json(model: str, file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"model {model}: {file.name} cannot be read ({error})") from None
    if not isinstance(content, dict):
        raise UserError(f"model {model}: {file.name} is not a JSON object")
    return content


def _architecture(model: str, config: dict[str, Any]) -> str:
    declared = config.get("architectures") or ["nothing"]
    for name in declared:
        if name in ARCHITECTURES:
            return str(name)
    raise UserError(f"model {model} is {declared[0]}, not a Gemma 3 ({' or '.join(ARCHITECTURES)})")


def _chat_template(model: str, path: Path) -> str:
    """The processor's template, else the tokenizer's, else nothing.

    A folder may hold both, and only the processor's handles images. The template is a file of its
    own (`chat_template.jinja` since transformers 4.51, `chat_template.json` before), or part of the
    tokenizer's configuration.
    """
    jinja = path / "chat_template.jinja"
    if jinja.exists():
        return jinja.read_text(encoding="utf-8")
    for name in ("chat_template.json", "processor_config.json", "tokenizer_config.json"):
        file = path / name
        template = _read_json(model, file).get("chat_template") if file.exists() else None
        if isinstance(template, str):
            return template
    return ""
