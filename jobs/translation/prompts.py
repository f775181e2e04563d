"""The prompts for a translation, in TranslateGemma's words (arXiv 2601.09012).

TranslateGemma's chat template adds these words itself; other Gemma 3 models get them as the user's
turn. The paper has no words for context, glossary terms and examples, and the template no place for
them. A base model is not asked: it continues lines of which each pair is a translation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jobs.options.languages import Language

TEXT = (
    "You are a professional {source} ({source_code}) to {target} ({target_code}) translator. "
    "Your goal is to accurately convey the meaning and nuances of the original {source} text "
    "while adhering to {target} grammar, vocabulary, and cultural sensitivities.\n"
    "Produce only the {target} translation, without any additional explanations or commentary. "
    "Please translate the following {source} text into {target}:\n\n\n{text}"
)
"""The prompt for a text."""

IMAGE = (
    "You are a professional {source} ({source_code}) to {target} ({target_code}) translator. "
    "Your goal is to accurately convey the meaning and nuances of the original {source} text "
    "while adhering to {target} grammar, vocabulary, and cultural sensitivities.\n"
    "Please translate the {source} text in the provided image into {target}. Produce only the "
    "{target} translation, without any additional explanations, alternatives or commentary. Focus "
    "only on the text, do not output where the text is located, surrounding objects or any other "
    "explanation about the picture. Ignore symbols, pictogram, and arrows!"
)
"""The prompt for the text in an image."""

INSTRUCTIONS = "Follow these instructions in the translation: {instructions}\n\n"
ABOUT = "This is what the text is about, for your understanding. Do not translate it:\n{about}\n\n"
"""What a user says of all texts, and a column of this one."""
TRANSLATED = (
    "The text right before was translated like this. Use the same words for the same things:\n"
    "{translation}\n\n"
)
CONTEXT = (
    "This text comes right before, for your understanding. Do not translate it:\n{context}\n\n"
)
TERMS = "Translate these terms as given:\n{terms}\n\n"
EXAMPLES = "Translate in the manner of these examples:\n\n{examples}"
EXAMPLE = "{source}: {text}\n{target}: {translation}\n\n"
"""A line in each language; what is translated stands after it, without its second line."""
IMAGE_COMPLETION = "The {source} text in this image, translated to {target}:"
END_OF_LINE = "\n"
"""Ends a translation that continues a line."""
MOST_CHARACTERS_PER_TOKEN = 16
"""Text beyond that is not counted at all."""


def text_prompt(
    text: str,
    source: Language,
    target: Language,
    *,
    context: str = "",
    terms: Sequence[tuple[str, str]] = (),
    examples: Sequence[tuple[str, str]] = (),
) -> str:
    """The prompt for a text; without the last three, exactly TranslateGemma's words.

    Args:
        text: The text to translate.
        source: Its language.
        target: The language to translate to.
        context: The text before it.
        terms: Glossary terms in it, each with its translation.
        examples: Other texts, each with its translation.
    """
    before = ""
    if examples:
        before = EXAMPLES.format(examples=_pairs(examples, source, target))
    before += CONTEXT.format(context=context) if context else ""
    if terms:
        before += TERMS.format(terms="\n".join(f"{term}: {other}" for term, other in terms))
    return before + TEXT.format(**_names(source, target), text=text)


def notes(instructions: str | None, about: str) -> str:
    """What precedes a prompt: the user's instructions, and what the text is about."""
    before = INSTRUCTIONS.format(instructions=instructions) if instructions else ""
    return before + (ABOUT.format(about=about) if about else "")


def translated_before(translation: str) -> str:
    """What precedes the prompt for a chunk, from the translation of the one before."""
    return TRANSLATED.format(translation=translation) if translation else ""


def beginning(text: str, limit: int, count: Callable[[str], int]) -> str:
    """The beginning of a text up to the end of a word, of at most so many tokens.

    Args:
        text: The text.
        limit: Most tokens.
        count: Counts the tokens of a text.
    """
    text = text[: limit * MOST_CHARACTERS_PER_TOKEN].strip()
    while (tokens := count(text)) > limit:
        text = text[: int(len(text) * limit / tokens * 0.95)]
        text = (text.rsplit(None, 1) or [""])[0]
    return text


def text_completion(
    text: str, source: Language, target: Language, examples: Sequence[tuple[str, str]] = ()
) -> str:
    """Raw text that continues with a translation, up to `END_OF_LINE`.

    Args:
        text: The text to translate, one line.
        source: Its language.
        target: The language to translate to.
        examples: Other texts, each with its translation.
    """
    before = _pairs(examples, source, target)
    return f"{before}{_label(source)}: {text}\n{_label(target)}:"


def image_completion(source: Language, target: Language) -> str:
    """Raw text behind an image that continues with the translation of the text in it."""
    return IMAGE_COMPLETION.format(source=_label(source), target=_label(target))


def _pairs(examples: Sequence[tuple[str, str]], source: Language, target: Language) -> str:
    names = {"source": _label(source), "target": _label(target)}
    return "".join(EXAMPLE.format(**names, text=a, translation=b) for a, b in examples)


def _label(language: Language) -> str:
    """`German`, and `Portuguese (pt-BR)`, so that two kinds of one language differ."""
    return f"{language.name} ({language.code})" if "-" in language.code else language.name


def image_prompt(source: Language, target: Language) -> str:
    """The prompt for the text in an image."""
    return IMAGE.format(**_names(source, target))


def _names(source: Language, target: Language) -> dict[str, str]:
    return {
        "source": source.name,
        "source_code": source.code,
        "target": target.name,
        "target_code": target.code,
    }
