"""Decides which drawings exist and how they look.

A scene is what a caption can say about a drawing: one shape, or a large shape next to a small one
of another colour, on a plain background. A scene's seed decides what no caption says: exact
places, sizes, angles and shades. The words for a scene are in `phrases`.
"""

import math
import random
from dataclasses import dataclass
from typing import Literal

from PIL import Image, ImageDraw

Relation = Literal["left of", "right of", "above", "below"]
Point = tuple[float, float]
Ink = int | tuple[int, int, int]  # a role (see `draw_roles`), or an RGB colour

SHAPES = ("circle", "square", "triangle", "star", "cross", "heart", "ring", "diamond")
RELATIONS: tuple[Relation, ...] = ("left of", "right of", "above", "below")
COLOURS = {
    "red": (214, 32, 38),
    "orange": (248, 138, 20),
    "yellow": (250, 222, 40),
    "green": (30, 150, 60),
    "blue": (28, 72, 205),
    "purple": (128, 40, 160),
    "pink": (250, 130, 185),
    "brown": (115, 68, 32),
}
BACKGROUNDS = {
    "white": (250, 250, 250),
    "grey": (158, 158, 158),
    "black": (18, 18, 18),
    "light blue": (184, 222, 244),
}
NATIVE_SIZE = (176, 144)  # pixels; not the model's size and not square, so that resizing matters
_OVERSAMPLING = 3  # pixels drawn per pixel kept, along each side
_ALONE = 0.2  # the share of scenes with a single shape
_SHADE = 10  # the most a colour channel differs from its nominal value


@dataclass(frozen=True, slots=True)
class Thing:
    """One coloured shape."""

    shape: str
    colour: str


@dataclass(frozen=True, slots=True)
class Scene:
    """What a drawing shows; `seed` decides only what no caption says.

    `subject` is the larger of two shapes, and the one that `relation` places ("subject left of
    other"). Without `other` there is no relation.
    """

    subject: Thing
    background: str
    other: Thing | None = None
    relation: Relation | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.other is None) != (self.relation is None):
            raise ValueError("a scene has both `other` and `relation`, or neither")

    @property
    def things(self) -> tuple[Thing, ...]:
        """The subject, then the other shape if there is one."""
        return (self.subject,) if self.other is None else (self.subject, self.other)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a shape lies: centre and radius in native pixels, angle in radians."""

    x: float
    y: float
    radius: float
    angle: float


def sample_scene(seed: int, *, repeat_colours: bool = False) -> Scene:
    """A scene that only `seed` decides; one in five has a single shape.

    Two shapes differ in colour; with `repeat_colours` they may have the same, but then differ in
    shape.
    """
    rng = random.Random(seed)  # noqa: S311 - drawings keep no secrets
    subject, background = _sample_thing(rng), rng.choice(list(BACKGROUNDS))
    if rng.random() < _ALONE:
        return Scene(subject, background, seed=seed)
    other = _sample_thing(rng)
    while other == subject or (other.colour == subject.colour and not repeat_colours):
        other = _sample_thing(rng)
    return Scene(subject, background, other, rng.choice(RELATIONS), seed)


def _sample_thing(rng: random.Random) -> Thing:
    return Thing(rng.choice(SHAPES), rng.choice(list(COLOURS)))


def places(scene: Scene) -> tuple[Place, ...]:
    """The place of each of `scene.things`, the same for the same scene.

    Two shapes are separate along the axis of their relation, and nearly level across it.
    """
    rng = random.Random(f"places {scene.seed}")  # noqa: S311
    width, height = NATIVE_SIZE
    if scene.relation is None:
        radius = rng.uniform(28, 46)
        x, y = rng.uniform(radius, width - radius), rng.uniform(radius, height - radius)
        return (_place(rng, x, y, radius),)
    horizontal = scene.relation in ("left of", "right of")
    subject_first = scene.relation in ("left of", "above")
    radii = (rng.uniform(37, 40), rng.uniform(26, 29))
    length, across = (width, height) if horizontal else (height, width)
    first, second = radii if subject_first else radii[::-1]
    gap = rng.uniform(5, min(30, length - 2 * (first + second)))
    start = rng.uniform(0, length - 2 * (first + second) - gap)
    along = [start + first, start + 2 * first + gap + second]
    if not subject_first:
        along.reverse()
    level = rng.uniform(radii[0] + 8, across - radii[0] - 8)
    points = [(a, level + rng.uniform(-8, 8)) for a in along]
    points = points if horizontal else [(y, x) for x, y in points]
    return tuple(_place(rng, x, y, r) for (x, y), r in zip(points, radii, strict=True))


def _place(rng: random.Random, x: float, y: float, radius: float) -> Place:
    return Place(x, y, radius, math.radians(rng.uniform(-8, 8)))


def draw(scene: Scene) -> Image.Image:
    """The RGB drawing of `scene` at `NATIVE_SIZE`, the same for the same scene."""
    rng = random.Random(f"shades {scene.seed}")  # noqa: S311
    width, height = NATIVE_SIZE
    background = _shade(rng, BACKGROUNDS[scene.background])
    canvas = Image.new("RGB", (width * _OVERSAMPLING, height * _OVERSAMPLING), background)
    pen = ImageDraw.Draw(canvas)
    for thing, place in zip(scene.things, places(scene), strict=True):
        _draw_thing(pen, thing.shape, place, _shade(rng, COLOURS[thing.colour]), background)
    return canvas.reduce(_OVERSAMPLING)


def draw_roles(scene: Scene) -> Image.Image:
    """The role of each pixel, in mode "L": 0 the background, 1 the subject, 2 the other shape."""
    width, height = NATIVE_SIZE
    canvas = Image.new("L", (width * _OVERSAMPLING, height * _OVERSAMPLING), 0)
    pen = ImageDraw.Draw(canvas)
    for role, (thing, place) in enumerate(zip(scene.things, places(scene), strict=True), 1):
        _draw_thing(pen, thing.shape, place, role, 0)
    return canvas.resize(NATIVE_SIZE, Image.Resampling.NEAREST)


def _shade(rng: random.Random, colour: tuple[int, int, int]) -> tuple[int, int, int]:
    red, green, blue = (min(255, max(0, c + rng.randint(-_SHADE, _SHADE))) for c in colour)
    return red, green, blue


def _draw_thing(
    pen: ImageDraw.ImageDraw,
    shape: str,
    place: Place,
    colour: Ink,
    background: Ink,
) -> None:
    if shape not in ("circle", "ring"):
        pen.polygon(_on_canvas(_outline(shape), place), fill=colour)
        return
    centre = (place.x * _OVERSAMPLING, place.y * _OVERSAMPLING)
    pen.circle(centre, place.radius * 0.95 * _OVERSAMPLING, fill=colour)
    if shape == "ring":
        pen.circle(centre, place.radius * 0.52 * _OVERSAMPLING, fill=background)


def _on_canvas(outline: list[Point], place: Place) -> list[Point]:
    """`outline` (unit radius) turned, scaled and moved to `place`, in canvas pixels."""
    cos, sin = math.cos(place.angle), math.sin(place.angle)
    scale = place.radius * _OVERSAMPLING
    return [
        (
            place.x * _OVERSAMPLING + scale * (x * cos - y * sin),
            place.y * _OVERSAMPLING + scale * (x * sin + y * cos),
        )
        for x, y in outline
    ]


def _outline(shape: str) -> list[Point]:
    """The corners of `shape` within the unit circle, y downwards."""
    if shape == "square":
        return [(-0.74, -0.74), (0.74, -0.74), (0.74, 0.74), (-0.74, 0.74)]
    if shape == "diamond":
        return [(0, -1), (0.72, 0), (0, 1), (-0.72, 0)]
    if shape == "triangle":
        return [(0, -0.95), (0.95, 0.75), (-0.95, 0.75)]
    if shape == "star":
        corners = [(1.0 if i % 2 == 0 else 0.42, i * math.pi / 5) for i in range(10)]
        return [(radius * math.sin(a), -radius * math.cos(a)) for radius, a in corners]
    if shape == "cross":
        top = [(-0.28, -0.95), (0.28, -0.95), (0.28, -0.28)]
        half = [*top, *((-y, x) for x, y in top)]
        return [*half, *((-x, -y) for x, y in half)]
    if shape == "heart":
        return [_heart(i * math.pi / 32) for i in range(64)]
    raise ValueError(f"no outline for the shape {shape!r}; known shapes: {', '.join(SHAPES)}")


def _heart(t: float) -> Point:
    """The usual heart curve, scaled into the unit circle."""
    x = 16 * math.sin(t) ** 3
    y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
    return x / 17, -(y + 2) / 17
