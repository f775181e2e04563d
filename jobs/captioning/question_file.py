"""Reads several prompts from a YAML or JSON file: `--prompts prompts.yaml`.

    - name: caption
      prompt: Describe this image in one sentence.
    - name: tags
      style: tags
      max_tokens: 64
    - name: title
      prompt: "Write a title for a page with this image. It is described as: {caption}"
      image: false

A prompt has a name, which is its column, and options of the job. `image: false` asks without the
image, as about another answer alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from jobs.captioning.prompt import columns_in
from jobs.options.entries import Entry, EntryKind, read_entries
from pipeline import UserError

KINDS_OF_PROMPT = ("prompt", "style", "json_schema")
KIND = EntryKind(
    option="prompts",
    one="prompt",
    keys=(
        "name",
        *KINDS_OF_PROMPT,
        "image",
        "language",
        "max_words",
        "max_tokens",
        "temperature",
        "top_p",
        "top_k",
        "stop",
        "presence_penalty",
        "frequency_penalty",
        "repetition_penalty",
        "clean",
        "quality",
    ),
    main="prompt",
    required=("name",),
)
"""Options of the job that a prompt may have of its own."""
TRUTHS = {"yes": True, "on": True, "no": False, "off": False}
"""Words of YAML that are read as text."""


def read_questions(source: str | Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> list[Entry]:
    """Read the prompts from a file, or as they are given in Python.

    Raises:
        UserError: The file cannot be read or is wrong; one line with the file and, for YAML, the
            line in it.
    """
    return [*map(_checked, read_entries(source, KIND))]


def _checked(entry: Entry) -> Entry:
    with entry.checking():
        _check_name(entry)
        given = entry.values.get("image", True)
        image = TRUTHS.get(given) if isinstance(given, str) else given
        if not isinstance(image, bool):
            raise UserError(f"image: should be true or false (got {given!r})")
    return replace(entry, values={**entry.values, "image": image})


def _check_name(entry: Entry) -> None:
    name = entry.values["name"]
    try:
        is_name = columns_in(f"{{{name}}}") == (name,)
    except UserError:
        is_name = False
    if not is_name or name != name.strip():
        raise UserError(f"name: '{name}' cannot be written in braces; use letters, digits and _")
