"""Decides what is not the answer itself in what a model wrote, at its ends: what `--clean` cuts.

    Sure! Here is a caption for the image:      a sentence that announces the answer
    **Caption:** a dog                          a label
    "a dog", **a dog**                          quotes, stars or a code fence around all of it

Only known words announce an answer, and only up to a colon, so that nothing is cut of what the
answer says: "Here is a sign: STOP" stays. Where a text is translated, what the source itself has at
its beginning, or around it, stays; so does a label of which the source may have a dash.
"""

from __future__ import annotations

import regex

MOST_LAYERS = 4
"""How often one is looked for within another: a label within quotes within a fence."""
START_OF_SOURCE = 100
"""Characters of a source in which a colon may be that of the answer's beginning."""
COLON = regex.compile("[:：]")
DASH = regex.compile(r"^.{1,40}?(?:[–—]|\s-\s)", regex.DOTALL)
"""After a word or a few of a source; a translation may have a colon for it."""

_KIND = r"(?:one|single|two|short|brief|concise|detailed|simple|possible|suggested|factual|"
_KIND += (
    r"accurate|formal|informal|literal|natural|revised|image|photo|picture|(?-i:\p{Lu}\p{Ll}+))"
)
_EN_NOUN = (
    r"(?:(?:image |photo |picture )?(?:caption|description)s?|translations?|alt[ -]?text|"
    r"translated text|transcription|summary|(?:list of )?tags)"
)
_ABOUT = r"(?:\s+(?:of|for|in|into|to|from|that|describing|based on|as|about)\b[^:：\n]{0,80})?"
"""What an announced answer may be of, up to the colon."""

ANNOUNCED = {
    "en": (
        r"(?:(?:sure|okay|ok|certainly|of course|absolutely|got it)(?: thing)?[!,.]?\s+)?"
        r"(?:here(?:'s| is| are)|below is|the following is)\s+(?:(?:an?|the|your|my)\s+)?"
        rf"(?:{_KIND}(?:-\w+)*,?\s+){{0,4}}{_EN_NOUN}{_ABOUT}"
    ),
    "de": (
        r"(?:(?:gerne?|natürlich|klar|sicher|selbstverständlich|okay)[!,.]?\s+)?"
        r"(?:hier (?:ist|sind|kommt)|nachfolgend)\s+(?:(?:eine?|die|der|das|deine|ihre|meine)\s+)?"
        r"(?:[\p{L}-]+e[rns]?\s+){0,3}"
        r"(?:übersetzung|beschreibung|bildunterschrift|bildbeschreibung|alternativtext|alt-text)"
        r"(?:\s+(?:des|der|für|von|ins|auf|zu|in)\b[^:\n]{0,80})?"
    ),
    "fr": (
        r"(?:(?:bien sûr|d'accord|volontiers|certainement)[!,. ]*\s+)?(?:voici|voilà)\s+"
        r"(?:une?\s+|la\s+|le\s+|votre\s+|l')?(?:[\p{L}-]+\s+){0,2}"
        r"(?:traduction|description|légende|texte alternatif)(?:\s+(?:de|du|des|pour|en|d')\b"
        r"[^:\n]{0,80})?"
    ),
    "es": (
        r"(?:(?:claro|por supuesto|claro que sí|desde luego)[!,. ]*\s+)?"
        r"(?:aquí (?:tienes?|está|tiene usted)|esta es)\s+(?:una?|la|el|tu|su)\s+"
        r"(?:traducción|descripción|leyenda|pie de foto|texto alternativo)"
        r"(?:\s+(?:de|del|para|al|en)\b[^:\n]{0,80})?"
    ),
    "it": (
        r"(?:(?:certo|certamente|volentieri)[!,. ]*\s+)?ecco(?:ti)?\s+(?:(?:una|la|il|un)\s+)?"
        r"(?:traduzione|descrizione|didascalia|testo alternativo)"
        r"(?:\s+(?:di|del|della|dell'|per|in)\b[^:\n]{0,80})?"
    ),
    "pt": (
        r"(?:(?:claro|com certeza)[!,. ]*\s+)?(?:aqui (?:está|vai|tem)|segue)\s+(?:uma?|a|o)\s+"
        r"(?:tradução|descrição|legenda|texto alternativo)"
        r"(?:\s+(?:de|da|do|para|em)\b[^:\n]{0,80})?"
    ),
    "nl": (
        r"(?:(?:natuurlijk|zeker|prima)[!,. ]*\s+)?hier (?:is|volgt)\s+(?:een|de|het|je|uw)\s+"
        r"(?:[\p{L}-]+\s+){0,2}(?:vertaling|beschrijving|bijschrift)"
        r"(?:\s+(?:van|voor|in|naar)\b[^:\n]{0,80})?"
    ),
    "pl": r"(?:oczywiście[!,. ]*\s+)?oto\s+(?:tłumaczenie|opis|podpis)(?:\s+[^:\n]{0,60})?",
    "ru": r"(?:конечно[!,. ]*\s+)?вот\s+(?:перевод|описание|подпись)(?:\s+[^:\n]{0,60})?",
    "zh": (
        r"(?:好的?[，,。!！]?\s*)?(?:以下是|下面是|这是)[^：:。\n]{0,20}(?:翻译|译文|描述|说明文字)"
        r"[^：:。\n]{0,6}"
    ),
    "ja": (
        r"(?:はい[、。]?|承知(?:しました|いたしました)[。]?)?(?:以下[はが]|こちらが)"
        r"[^：:。\n]{0,20}(?:翻訳|訳文|説明文?|キャプション)[^：:。\n]{0,8}"
    ),
    "ko": (
        r"(?:네[,.]? ?|물론입니다[.!,]? ?)?(?:다음은|여기)[^:\n]{0,20}(?:번역|설명|캡션)[^:\n]{0,8}"
    ),
}
"""Sentences that announce an answer, without their colon."""
LABELS = "|".join(
    (
        r"(?:image |photo )?caption|image description|description|alt[ -]?text",
        r"(?:\p{L}+ )?translation|translated text",
        "beschreibung|bildbeschreibung|bildunterschrift|(?:deutsche )?übersetzung|alternativtext",
        r"légende|traduction(?: \p{L}+)?",
        "descripción|leyenda|traducción",
        "descrizione|didascalia|traduzione",
        "descrição|legenda|tradução",
        "vertaling|beschrijving|bijschrift",
        "tłumaczenie|opis",
        "перевод|описание",
        "翻译|译文|描述",
        "翻訳|訳文|説明|キャプション",
        "번역|설명|캡션",
    )
)
_OPENED = r"(?:(?P<mark>\*\*|__)|#+\s)?\s*"
_CLOSED = r"(?:\s*(?P<closed>(?P=mark))\s*[:：]|\s*[:：]\s*(?P<closed>(?P=mark))|\s*[:：])\s*(?=\S)"
BEGINNING = regex.compile(
    rf"{_OPENED}(?:{'|'.join(ANNOUNCED.values())}|(?P<label>{LABELS})){_CLOSED}", regex.IGNORECASE
)
"""`mark` opens what is strong, as Markdown writes it; `closed` is the same mark, at its end."""
STARS = regex.compile(r"\*\*(?P<inside>(?:(?!\*\*).)+)\*\*", regex.DOTALL)
FENCE = regex.compile(r"(```|~~~)[\w+-]*\n(?P<inside>.*?)\n?\s*\1", regex.DOTALL)
QUOTES = ('""', "“”", "„“", "„”", "«»", "»«", "''", "‘’", "‚‘", "「」", "『』", "``")


def cleaned(answer: str, source: str | None = None) -> str:
    """An answer without what is around it.

    Args:
        answer: What the model wrote.
        source: The text that it translates, if it is a translation.

    Returns:
        The answer, without white space at its ends; never empty where there is anything else.
    """
    text = answer.strip()
    for _ in range(MOST_LAYERS):
        inner = _without_beginning(text, source) or text
        inner = _inside_fence(inner, source) or inner
        inner = _inside_quotes(inner, source) or inner
        inner = _inside_stars(inner, source) or inner
        if inner == text:
            break
        text = inner
    return text


def _without_beginning(text: str, source: str | None) -> str:
    """The text after what announces it; empty where nothing does."""
    if source is not None and COLON.search(source[:START_OF_SOURCE]):
        return ""
    found = BEGINNING.match(text.replace("’", "'"))
    if found is None or (found["label"] and source is not None and DASH.match(source)):
        return ""
    is_open = found["mark"] and not found["closed"]  # it goes on in the answer
    return (found["mark"] if is_open else "") + text[found.end() :].strip()


def _inside_stars(text: str, source: str | None) -> str:
    """The text in stars around all of it; empty where there are none, or more of them in it."""
    if source is not None and source.strip().startswith("**"):
        return ""
    found = STARS.fullmatch(text)
    return str(found["inside"]).strip() if found else ""


def _inside_fence(text: str, source: str | None) -> str:
    """The text in a code fence that holds all of it; empty where there is none."""
    found = FENCE.fullmatch(text)
    if found is None or found[1] in found["inside"]:  # two of them, with text between
        return ""
    if source is not None and found[1] in source:
        return ""
    return str(found["inside"]).strip()


def _inside_quotes(text: str, source: str | None) -> str:
    """The text in quotes around all of it; empty where there are none, or more of them in it."""
    marks = "".join(QUOTES)
    if source is not None and source.strip()[:1] in marks:
        return ""
    inside = text[1:-1]
    is_quoted = any(text.startswith(pair[0]) and text.endswith(pair[1]) for pair in QUOTES)
    if len(text) < 3 or not is_quoted:  # noqa: PLR2004  two marks and something between them
        return ""
    return "" if text[0] in inside or text[-1] in inside else inside.strip()
