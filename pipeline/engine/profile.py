"""What decides how a model is prompted, read once from its folder.

Every question about a model is answered here: which Gemma 3 it is, in which format it is prompted,
what its chat template asks for, and which tokens it ends or judges with. The driver asks too, so
this needs neither torch nor vLLM. To support another model family, begin with `ARCHITECTURES`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pipeline.contract.errors import UserError
from pipeline.engine.model_files import model_folder, read_json, read_text, token_id
from pipeline.engine.turns import GEMMA, RAW

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.contract.config import PromptFormat

SHIELDGEMMA2 = "ShieldGemma2ForImageClassification"
ARCHITECTURES = {
    "Gemma3ForConditionalGeneration": True,
    "Gemma3ForCausalLM": False,
    SHIELDGEMMA2: True,
}
"""Architectures the engine runs, and whether each has a vision tower."""
DEFAULT_MAX_POSITIONS = 131_072
"""Transformers' default; the hub's configuration of the 4B model leaves the value out."""
DEFAULT_PER_IMAGE = 256
"""Soft tokens of an image; transformers' default, too."""
AROUND_IMAGE = 2
END_OF_TURN = "<end_of_turn>"
LANGUAGE_FIELD = "source_lang_code"
"""Field of a message that TranslateGemma's chat template reads."""
LANGUAGE_KEY = re.compile(r"""["']([a-z]{2,3}(?:[-_][A-Za-z0-9]{2,8})*)["']\s*:\s*["']""")
"""A language's code as a key of the dictionary in that template."""
IMAGE_NAMES = ("start_of_image", "boi_token", "image_token")
"""How a template names the token that stands for an image."""
POLICY_START = "<BEGIN_SAFETY_POLICY>"
"""In ShieldGemma 2's chat template, before the policy."""
VERDICT_FIELDS = {"Yes": "yes_token_index", "No": "no_token_index"}
"""Fields of ShieldGemma 2's configuration."""
WITHOUT = (
    "give --prompt-format raw (prompt_format in Python) to have it continue the prompt, or gemma "
    "for an instruction-tuned Gemma 3"
)
"""What to do about a checkpoint without a chat template."""


@dataclass(frozen=True, kw_only=True)
class ModelProfile:
    """What there is to know about a model without loading it.

    Attributes:
        architecture: The class name in its `config.json`; one of `ARCHITECTURES`.
        max_positions: The longest sequence it supports, in tokens.
        prompt_format: How it is prompted: by its own template unless `prompted` says otherwise.
        chat_template: Its own chat template, in Jinja; empty if it has none.
        ends_turns: Whether its configuration ends answers at the end of a turn, as those of
            instruction-tuned models do. Read only where there is no chat template.
        end_of_turn: Control string that ends the model's turn. The configuration of some
            checkpoints (TranslateGemma) names only `<eos>`, which they never write.
        verdict_token_ids: Ids of the tokens for "Yes" and "No", where the configuration names them
            (ShieldGemma 2).
        tokens_per_image: Of a prompt, for one image without crops: its soft tokens, and those that
            begin and end it.
    """

    architecture: str
    max_positions: int
    prompt_format: PromptFormat = "template"
    chat_template: str = ""
    ends_turns: bool = False
    end_of_turn: str = END_OF_TURN
    verdict_token_ids: Mapping[str, int] = field(default_factory=dict)
    tokens_per_image: int = DEFAULT_PER_IMAGE + AROUND_IMAGE

    @property
    def has_vision(self) -> bool:
        """Whether it takes images."""
        return ARCHITECTURES[self.architecture]

    @property
    def template(self) -> str:
        """The chat template that prompts are made with."""
        return {"template": self.chat_template, "gemma": GEMMA, "raw": RAW}[self.prompt_format]

    @property
    def places_images(self) -> bool:
        """Whether that template has a place for images, as that of a model of texts has not."""
        return any(name in self.template for name in IMAGE_NAMES)

    @property
    def continues_text(self) -> bool:
        """Whether prompts are raw text, which the model continues, and no turns of a dialogue."""
        return self.prompt_format == "raw"

    @property
    def asks_languages(self) -> bool:
        """Whether the template takes the codes of two languages, as TranslateGemma's does."""
        return LANGUAGE_FIELD in self.template

    def knows_language(self, code: str) -> bool:
        """Whether such a template has a name for this code (`de`, `pt-BR` or `pt_BR`)."""
        codes = {key.replace("_", "-") for key in LANGUAGE_KEY.findall(self.template)}
        return code.replace("_", "-") in codes

    @property
    def wraps_policy(self) -> bool:
        """Whether the template asks about a policy in its own words, around the policy."""
        return POLICY_START in self.template

    @property
    def is_shieldgemma2(self) -> bool:
        """Whether it was trained to judge images, by its class or by its own chat template."""
        return POLICY_START in self.chat_template or self.architecture == SHIELDGEMMA2

    def prompted(self, wanted: PromptFormat | None, model: str) -> ModelProfile:
        """The profile with the format that the model is prompted in.

        Args:
            wanted: What the user chose. By default the checkpoint's own template; Gemma's turns
                where an instruction-tuned one has none.
            model: The model, for the message.

        Raises:
            UserError: The checkpoint has no template, and it must be said what to do without.
        """
        chosen: PromptFormat = wanted or ("template" if self.chat_template else "gemma")
        if chosen == "template" and not self.chat_template:
            raise UserError(f"prompt_format: model {model} has no chat template; {WITHOUT}")
        if wanted is None and chosen == "gemma" and not self.ends_turns:
            raise UserError(
                f"model {model} is a base model: it has no chat template, and its configuration no "
                f"end of a turn; {WITHOUT}"
            )
        return replace(self, prompt_format=chosen)


def read_profile(model: str) -> ModelProfile:
    """Read the profile of a model.

    Args:
        model: Its folder, as the user named it, or `demo`.

    Raises:
        UserError: The folder or its `config.json` is missing, a file cannot be read, or the model
            is not a Gemma 3.
    """
    path = model_folder(model)
    if not (path / "config.json").exists():
        raise UserError(f"model {model} has no config.json; is it a checkpoint's folder?")
    config = read_json(model, path / "config.json")
    text_config = config.get("text_config") or config
    template = _chat_template(model, path)
    verdicts = {word: config.get(name) for word, name in VERDICT_FIELDS.items()}
    return ModelProfile(
        architecture=_architecture(model, config),
        max_positions=int(text_config.get("max_position_embeddings", DEFAULT_MAX_POSITIONS)),
        chat_template=template,
        ends_turns=not template and _ends_turns(model, path, config),
        verdict_token_ids={word: token for word, token in verdicts.items() if token is not None},
        tokens_per_image=AROUND_IMAGE + int(config.get("mm_tokens_per_image", DEFAULT_PER_IMAGE)),
    )


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
        return read_text(model, jinja)
    for name in ("chat_template.json", "processor_config.json", "tokenizer_config.json"):
        file = path / name
        template = read_json(model, file).get("chat_template") if file.exists() else None
        if isinstance(template, list):  # of several by name, as before transformers 4.51
            template = {one["name"]: one["template"] for one in template}.get("default")
        if isinstance(template, str):
            return template
    return ""


def _ends_turns(model: str, path: Path, config: Mapping[str, Any]) -> bool:
    """Whether one of the ids that end an answer is that of `END_OF_TURN`."""
    generation = path / "generation_config.json"
    settings = [config.get("text_config") or {}, config]
    settings += [read_json(model, generation)] if generation.exists() else []
    ends = [one.get("eos_token_id") for one in settings]
    ids = {number for end in ends for number in (end if isinstance(end, list) else [end])}
    return token_id(model, path, END_OF_TURN) in ids - {None}
