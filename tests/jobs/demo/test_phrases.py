"""The words are right: grammar in four languages, and policies that do what their text says."""

import itertools

import pytest

from jobs.demo.drawings import BACKGROUNDS, COLOURS, RELATIONS, SHAPES, Scene, Thing, sample_scene
from jobs.demo.phrases import (
    LANGUAGES,
    POLICIES,
    LanguageCode,
    caption,
    moderation_prompt,
    translation,
    translation_prompt,
    violates,
)

CIRCLE, STAR = Thing("circle", "red"), Thing("star", "blue")
PAIR = Scene(CIRCLE, "white", STAR, "left of")
PAIR_BACK = Scene(STAR, "white", CIRCLE, "right of")

EXAMPLES: list[tuple[Scene, dict[str, str]]] = [
    (
        PAIR,
        {
            "en": "a red circle left of a blue star on a white background",
            "fr": "un cercle rouge à gauche d'une étoile bleue sur un fond blanc",
            "de": "ein roter Kreis links von einem blauen Stern auf weißem Hintergrund",
            "es": "un círculo rojo a la izquierda de una estrella azul sobre un fondo blanco",
        },
    ),
    (
        Scene(Thing("diamond", "orange"), "light blue", Thing("cross", "purple"), "above"),
        {
            "en": "an orange diamond above a purple cross on a light blue background",
            "fr": "un losange orange au-dessus d'une croix violette sur un fond bleu clair",
            "de": "eine orangefarbene Raute über einem violetten Kreuz auf hellblauem Hintergrund",
            "es": "un rombo naranja encima de una cruz morada sobre un fondo azul claro",
        },
    ),
    (
        Scene(Thing("heart", "brown"), "grey", Thing("diamond", "green"), "below"),
        {
            "en": "a brown heart below a green diamond on a grey background",
            "fr": "un cœur brun au-dessous d'un losange vert sur un fond gris",
            "de": "ein braunes Herz unter einer grünen Raute auf grauem Hintergrund",
            "es": "un corazón marrón debajo de un rombo verde sobre un fondo gris",
        },
    ),
    (
        Scene(Thing("star", "yellow"), "black", Thing("ring", "pink"), "right of"),
        {
            "en": "a yellow star right of a pink ring on a black background",
            "fr": "une étoile jaune à droite d'un anneau rose sur un fond noir",
            "de": "ein gelber Stern rechts von einem rosafarbenen Ring auf schwarzem Hintergrund",
            "es": "una estrella amarilla a la derecha de un anillo rosa sobre un fondo negro",
        },
    ),
    (
        Scene(Thing("square", "green"), "white"),
        {
            "en": "a green square on a white background",
            "fr": "un carré vert sur un fond blanc",
            "de": "ein grünes Quadrat auf weißem Hintergrund",
            "es": "un cuadrado verde sobre un fondo blanco",
        },
    ),
    (
        Scene(Thing("triangle", "red"), "white"),
        {
            "en": "a red triangle on a white background",
            "fr": "un triangle rouge sur un fond blanc",
            "de": "ein rotes Dreieck auf weißem Hintergrund",
            "es": "un triángulo rojo sobre un fondo blanco",
        },
    ),
]


@pytest.mark.parametrize(("scene", "said"), EXAMPLES)
def test_a_scene_is_said_as_a_person_would(scene: Scene, said: dict[str, str]) -> None:
    assert caption(scene) == said["en"]
    for language in LANGUAGES:
        assert translation(scene, language) == said[language]


FEMININE: dict[LanguageCode, set[str]] = {
    "fr": {"étoile", "croix"},
    "de": {"Raute"},
    "es": {"estrella", "cruz"},
}
NEUTER = {"Quadrat", "Dreieck", "Kreuz", "Herz"}
ALL_THINGS = [Thing(shape, colour) for shape, colour in itertools.product(SHAPES, COLOURS)]


@pytest.mark.parametrize("thing", ALL_THINGS, ids=str)
def test_articles_agree_with_nouns(thing: Thing) -> None:
    scene = Scene(thing, "white")
    words = {language: translation(scene, language).split() for language in LANGUAGES}
    assert words["fr"][0] == ("une" if words["fr"][1] in FEMININE["fr"] else "un")
    assert words["es"][0] == ("una" if words["es"][1] in FEMININE["es"] else "un")
    article, adjective, noun = words["de"][:3]
    ending = "e" if noun in FEMININE["de"] else "es" if noun in NEUTER else "er"
    assert article == ("eine" if noun in FEMININE["de"] else "ein")
    assert adjective.endswith(ending)


@pytest.mark.parametrize("thing", ALL_THINGS, ids=str)
@pytest.mark.parametrize("relation", RELATIONS)
def test_german_relations_take_the_dative(thing: Thing, relation: str) -> None:
    scene = Scene(Thing("circle", "red"), "white", thing, relation)  # type: ignore[arg-type]
    article, adjective, noun = translation(scene, "de").split()[-6:-3]
    assert article == ("einer" if noun in FEMININE["de"] else "einem")
    assert adjective.endswith("en")


def test_different_captions_have_different_translations() -> None:
    scenes = {caption(scene): scene for scene in map(sample_scene, range(5000))}
    for language in LANGUAGES:
        assert len({translation(scene, language) for scene in scenes.values()}) == len(scenes)


def test_every_word_of_the_scenes_is_known() -> None:
    for thing, background in itertools.product(ALL_THINGS, BACKGROUNDS):
        assert all(translation(Scene(thing, background), language) for language in LANGUAGES)


VERDICTS = {  # policy: (a red circle left of a blue star on white, a green square on black)
    "stars": (True, False),
    "round_shapes": (True, False),
    "red": (True, False),
    "green_or_brown": (False, True),
    "dark_background": (False, True),
    "pairs": (True, False),
    "side_by_side": (True, False),
}


def test_policies_are_violated_by_what_they_forbid() -> None:
    alone = Scene(Thing("square", "green"), "black")
    assert {p.name: (violates(PAIR, p), violates(alone, p)) for p in POLICIES} == VERDICTS
    below = Scene(Thing("circle", "yellow"), "white", STAR, "below")
    assert {p.name for p in POLICIES if violates(below, p)} == {"stars", "round_shapes", "pairs"}


def test_policies_do_not_depend_on_which_shape_comes_first() -> None:
    for policy in POLICIES:
        assert violates(PAIR, policy) == violates(PAIR_BACK, policy)


def test_prompts_are_filled_in() -> None:
    prompt = translation_prompt("a red star", "de")
    assert prompt.startswith("You are a professional English (en) to German (de) translator.")
    assert prompt.endswith("into German:\n\n\na red star")
    prompt = moderation_prompt(POLICIES[0])
    assert "<BEGIN_SAFETY_POLICY>\nNo Stars: The image shall not contain a star.\n</END" in prompt
    assert "{" not in prompt
