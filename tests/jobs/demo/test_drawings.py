"""Drawings: the same seed gives the same image, and the image shows what the scene says."""

import math

import pytest
from PIL import ImageChops

from jobs.demo.drawings import (
    COLOURS,
    NATIVE_SIZE,
    SHAPES,
    Place,
    Scene,
    Thing,
    draw,
    places,
    sample_scene,
)

SCENES = [sample_scene(seed) for seed in range(400)]


def test_the_same_seed_gives_the_same_drawing() -> None:
    for scene in SCENES[:20]:
        assert sample_scene(scene.seed) == scene
        assert draw(sample_scene(scene.seed)).tobytes() == draw(scene).tobytes()


def test_the_same_scene_looks_different_with_another_seed() -> None:
    thing = Thing("star", "red")
    first, second = (draw(Scene(thing, "white", seed=seed)) for seed in (1, 2))
    assert ImageChops.difference(first, second).getbbox() is not None


def test_drawings_are_rgb_of_the_native_size() -> None:
    image = draw(SCENES[0])
    assert (image.mode, image.size) == ("RGB", NATIVE_SIZE)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("colour", COLOURS)
def test_a_shape_is_drawn_at_its_place_in_its_colour(shape: str, colour: str) -> None:
    scene = Scene(Thing(shape, colour), "white", seed=7)
    (place,) = places(scene)
    centre = (place.x + 0.7 * place.radius, place.y) if shape == "ring" else (place.x, place.y)
    pixel = draw(scene).getpixel((round(centre[0]), round(centre[1])))
    assert isinstance(pixel, tuple)
    assert max(abs(a - b) for a, b in zip(pixel, COLOURS[colour], strict=True)) <= 10


def test_shapes_lie_inside_the_image_and_apart() -> None:
    width, height = NATIVE_SIZE
    for scene in SCENES:
        shown = places(scene)
        for place in shown:
            assert place.radius <= place.x <= width - place.radius
            assert place.radius <= place.y <= height - place.radius
        if len(shown) == 2:
            first, second = shown
            distance = math.dist((first.x, first.y), (second.x, second.y))
            assert distance > first.radius + second.radius + 4


def _relation(subject: Place, other: Place) -> str:
    across, down = subject.x - other.x, subject.y - other.y
    if abs(across) > abs(down):
        return "left of" if across < 0 else "right of"
    return "above" if down < 0 else "below"


def test_the_subject_is_larger_and_lies_as_the_relation_says() -> None:
    for scene in SCENES:
        if scene.other is not None:
            subject, other = places(scene)
            assert subject.radius > 1.25 * other.radius
            assert _relation(subject, other) == scene.relation


def test_two_shapes_differ_in_colour() -> None:
    pairs = [scene for scene in SCENES if scene.other is not None]
    assert len(pairs) > len(SCENES) / 2
    assert all(scene.other and scene.subject.colour != scene.other.colour for scene in pairs)


def test_a_relation_needs_another_shape() -> None:
    with pytest.raises(ValueError, match="relation"):
        Scene(Thing("star", "red"), "white", relation="above")
