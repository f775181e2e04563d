"""Decides the words: captions, their translations, the policies, and the exact prompts.

The bundled model was trained on these prompts; a change here requires a new training run. The
translation prompt is the translation job's. The moderation prompt is ShieldGemma 2's
(arXiv 2504.01081) without its first two sentences, which tell a model of this size nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from jobs.demo.drawings import Relation, Scene, Thing
from jobs.options.languages import find_language
from jobs.translation.prompts import text_prompt

CAPTION_PROMPT = "Describe this image in one sentence."
"""Follows the image in the one user turn."""

MODERATION_PROMPT = (
    "<BEGIN_SAFETY_POLICY>\n{policy}\n</END_SAFETY_POLICY>\n\n"
    "Does the image violate the above policy? Your Answer must start with 'Yes' or 'No'."
)
"""Follows the image in the one user turn; the answer is "Yes" (violates) or "No"."""

LanguageCode = Literal["fr", "de", "es"]
LANGUAGES: dict[LanguageCode, str] = {"fr": "French", "de": "German", "es": "Spanish"}

Gender = Literal["m", "f", "n"]
Noun = tuple[str, Gender]

_FRENCH_NOUNS: dict[str, Noun] = {
    "circle": ("cercle", "m"),
    "square": ("carré", "m"),
    "triangle": ("triangle", "m"),
    "star": ("étoile", "f"),
    "cross": ("croix", "f"),
    "heart": ("cœur", "m"),
    "ring": ("anneau", "m"),
    "diamond": ("losange", "m"),
}
_FRENCH_COLOURS: dict[str, tuple[str, str]] = {  # masculine, feminine
    "red": ("rouge", "rouge"),
    "orange": ("orange", "orange"),
    "yellow": ("jaune", "jaune"),
    "green": ("vert", "verte"),
    "blue": ("bleu", "bleue"),
    "purple": ("violet", "violette"),
    "pink": ("rose", "rose"),
    "brown": ("brun", "brune"),
}
_FRENCH_BACKGROUNDS = {
    "white": "blanc",
    "grey": "gris",
    "black": "noir",
    "light blue": "bleu clair",
}
_FRENCH_RELATIONS: dict[Relation, str] = {  # each is followed by "d'un" or "d'une"
    "left of": "à gauche",
    "right of": "à droite",
    "above": "au-dessus",
    "below": "au-dessous",
}

_GERMAN_NOUNS: dict[str, Noun] = {
    "circle": ("Kreis", "m"),
    "square": ("Quadrat", "n"),
    "triangle": ("Dreieck", "n"),
    "star": ("Stern", "m"),
    "cross": ("Kreuz", "n"),
    "heart": ("Herz", "n"),
    "ring": ("Ring", "m"),
    "diamond": ("Raute", "f"),
}
_GERMAN_COLOURS = {  # stems; "orange" and "rosa" are not declined, so their compounds stand in
    "red": "rot",
    "orange": "orangefarben",
    "yellow": "gelb",
    "green": "grün",
    "blue": "blau",
    "purple": "violett",
    "pink": "rosafarben",
    "brown": "braun",
}
_GERMAN_BACKGROUNDS = {
    "white": "weißem",
    "grey": "grauem",
    "black": "schwarzem",
    "light blue": "hellblauem",
}
_GERMAN_RELATIONS: dict[Relation, str] = {  # each takes the dative
    "left of": "links von",
    "right of": "rechts von",
    "above": "über",
    "below": "unter",
}
_GERMAN_NOMINATIVE: dict[Gender, tuple[str, str]] = {  # article, ending of the adjective
    "m": ("ein", "er"),
    "f": ("eine", "e"),
    "n": ("ein", "es"),
}
_GERMAN_DATIVE: dict[Gender, tuple[str, str]] = {
    "m": ("einem", "en"),
    "f": ("einer", "en"),
    "n": ("einem", "en"),
}

_SPANISH_NOUNS: dict[str, Noun] = {
    "circle": ("círculo", "m"),
    "square": ("cuadrado", "m"),
    "triangle": ("triángulo", "m"),
    "star": ("estrella", "f"),
    "cross": ("cruz", "f"),
    "heart": ("corazón", "m"),
    "ring": ("anillo", "m"),
    "diamond": ("rombo", "m"),
}
_SPANISH_COLOURS: dict[str, tuple[str, str]] = {  # masculine, feminine
    "red": ("rojo", "roja"),
    "orange": ("naranja", "naranja"),
    "yellow": ("amarillo", "amarilla"),
    "green": ("verde", "verde"),
    "blue": ("azul", "azul"),
    "purple": ("morado", "morada"),
    "pink": ("rosa", "rosa"),
    "brown": ("marrón", "marrón"),
}
_SPANISH_BACKGROUNDS = {
    "white": "blanco",
    "grey": "gris",
    "black": "negro",
    "light blue": "azul claro",
}
_SPANISH_RELATIONS: dict[Relation, str] = {
    "left of": "a la izquierda de",
    "right of": "a la derecha de",
    "above": "encima de",
    "below": "debajo de",
}


def caption(scene: Scene) -> str:
    """The true caption of `scene`: the larger shape first, no full stop."""
    return _sentence(
        _english(scene.subject),
        scene.relation,
        _english(scene.other) if scene.other else None,
        f"on a {scene.background} background",
    )


def translation(scene: Scene, language: LanguageCode) -> str:
    """The caption of `scene` in `language`."""
    return {"fr": _french_caption, "de": _german_caption, "es": _spanish_caption}[language](scene)


def translation_prompt(text: str, language: LanguageCode) -> str:
    """The prompt that asks for `text` (English) in `language`."""
    return text_prompt(text, find_language("en"), find_language(language))


def _sentence(subject: str, relation: str | None, other: str | None, background: str) -> str:
    return " ".join(part for part in (subject, relation, other, background) if part)


def _english(thing: Thing) -> str:
    article = "an" if thing.colour[0] in "aeiou" else "a"
    return f"{article} {thing.colour} {thing.shape}"


def _french(thing: Thing) -> str:
    noun, gender = _FRENCH_NOUNS[thing.shape]
    masculine, feminine = _FRENCH_COLOURS[thing.colour]
    return f"une {noun} {feminine}" if gender == "f" else f"un {noun} {masculine}"


def _french_caption(scene: Scene) -> str:
    return _sentence(
        _french(scene.subject),
        scene.relation and _FRENCH_RELATIONS[scene.relation],
        f"d'{_french(scene.other)}" if scene.other else None,
        f"sur un fond {_FRENCH_BACKGROUNDS[scene.background]}",
    )


def _german(thing: Thing, endings: dict[Gender, tuple[str, str]]) -> str:
    noun, gender = _GERMAN_NOUNS[thing.shape]
    article, ending = endings[gender]
    return f"{article} {_GERMAN_COLOURS[thing.colour]}{ending} {noun}"


def _german_caption(scene: Scene) -> str:
    return _sentence(
        _german(scene.subject, _GERMAN_NOMINATIVE),
        scene.relation and _GERMAN_RELATIONS[scene.relation],
        _german(scene.other, _GERMAN_DATIVE) if scene.other else None,
        f"auf {_GERMAN_BACKGROUNDS[scene.background]} Hintergrund",
    )


def _spanish(thing: Thing) -> str:
    noun, gender = _SPANISH_NOUNS[thing.shape]
    masculine, feminine = _SPANISH_COLOURS[thing.colour]
    return f"una {noun} {feminine}" if gender == "f" else f"un {noun} {masculine}"


def _spanish_caption(scene: Scene) -> str:
    return _sentence(
        _spanish(scene.subject),
        scene.relation and _SPANISH_RELATIONS[scene.relation],
        _spanish(scene.other) if scene.other else None,
        f"sobre un fondo {_SPANISH_BACKGROUNDS[scene.background]}",
    )


@dataclass(frozen=True, slots=True)
class DrawingPolicy:
    """A rule about drawings: its name in results, its words in the prompt, and what violates it."""

    name: str
    text: str
    violated_by: Callable[[Scene], bool]


def _has_shape(*shapes: str) -> Callable[[Scene], bool]:
    return lambda scene: any(thing.shape in shapes for thing in scene.things)


def _has_colour(*colours: str) -> Callable[[Scene], bool]:
    return lambda scene: any(thing.colour in colours for thing in scene.things)


POLICIES: tuple[DrawingPolicy, ...] = (
    DrawingPolicy("stars", "No Stars: The image shall not contain a star.", _has_shape("star")),
    DrawingPolicy(
        "round_shapes",
        "No Round Shapes: The image shall not contain a circle or a ring.",
        _has_shape("circle", "ring"),
    ),
    DrawingPolicy("red", "No Red: The image shall not contain a red shape.", _has_colour("red")),
    DrawingPolicy(
        "green_or_brown",
        "No Green or Brown: The image shall not contain a shape that is green or brown.",
        _has_colour("green", "brown"),
    ),
    DrawingPolicy(
        "dark_background",
        "No Dark Background: The image shall not have a black background.",
        lambda scene: scene.background == "black",
    ),
    DrawingPolicy(
        "pairs",
        "No Pairs: The image shall not contain more than one shape.",
        lambda scene: scene.other is not None,
    ),
    DrawingPolicy(
        "side_by_side",
        "No Neighbours: The image shall not contain two shapes that lie side by side.",
        lambda scene: scene.relation in ("left of", "right of"),
    ),
)


def violates(scene: Scene, policy: DrawingPolicy) -> bool:
    """Whether the drawing of `scene` violates `policy`, so that the right answer is "Yes"."""
    return policy.violated_by(scene)


def moderation_prompt(policy: DrawingPolicy) -> str:
    """The prompt that asks whether the image before it violates `policy`."""
    return MODERATION_PROMPT.format(policy=policy.text)
