"""The CPU mask, as literal matrices, and how a step is cut for it."""

from __future__ import annotations

import pytest
import torch

from gemma3_model.attention_cpu import Segment, _rows_by_distance, cut_segments
from gemma3_model.scheduling.whole_images import whole_images
from tests.gemma3_model.drawings import DRAWINGS, defined


def seen(length: int, images: list[tuple[int, int]], window: int | None) -> torch.Tensor:
    """What the kernel lets each token see, by its own rules, for the segments we cut."""
    segments = cut_segments([length], [length], {0: images})
    mask = torch.zeros(length, length, dtype=torch.bool)
    for segment in segments:
        for query in range(segment.start, segment.end):
            for key in range(segment.end):
                ahead = key > query
                near = window is None or abs(query - key) < window
                mask[query, key] = near and (segment.is_image or not ahead)
    if window is not None:
        for distance, places in _rows_by_distance(segments, window).items():
            for row, index in places:
                end = segments[index].end
                mask[row] = False
                # A causal sequence of one query at the image's end, its window widened.
                mask[row, max(0, end - (window + distance)) : end] = True
    return mask


@pytest.mark.parametrize("name", list(DRAWINGS))
def test_what_each_token_sees(name: str) -> None:
    drawn = DRAWINGS[name]
    assert torch.equal(seen(len(drawn.mask), drawn.images, drawn.window), drawn.mask)


@pytest.mark.parametrize("name", list(DRAWINGS))
def test_the_drawings_are_what_the_definition_says(name: str) -> None:
    drawn = DRAWINGS[name]
    assert torch.equal(defined(len(drawn.mask), drawn.images, drawn.window), drawn.mask)


@pytest.mark.parametrize("longer", [-1, 0, 1, 2, 7])
@pytest.mark.parametrize("first", [0, 1, 6])
def test_images_around_the_length_of_the_window(longer: int, first: int) -> None:
    """One token more than the window is the first length that the kernel alone gets wrong."""
    window = 5
    images = [(first, first + window + longer - 1)]
    length = first + window + longer + 3
    assert torch.equal(seen(length, images, window), defined(length, images, window))


def test_segments_of_a_step_in_the_middle_of_a_prompt() -> None:
    """Request 0 goes on after 10 tokens, inside its first image; request 1 only decodes."""
    segments = cut_segments([8, 1], [18, 40], {0: [(8, 11), (14, 16)], 1: [(3, 7)]})
    assert segments == [
        Segment(request=0, start=10, end=12, is_image=True),
        Segment(request=0, start=12, end=14, is_image=False),
        Segment(request=0, start=14, end=17, is_image=True),
        Segment(request=0, start=17, end=18, is_image=False),
        Segment(request=1, start=39, end=40, is_image=False),
    ]


def test_a_cut_image_is_an_error_and_never_a_wrong_mask() -> None:
    with pytest.raises(AssertionError, match="scheduler cut an image"):
        cut_segments([5], [5], {0: [(3, 8)]})


@pytest.mark.parametrize(
    ("computed", "new", "taken"),
    [
        (0, 5, 5),  # ends where the image begins
        (0, 6, 5),  # would take its first token alone
        (0, 8, 5),
        (0, 9, 9),  # takes it whole
        (5, 3, 0),  # begins with it and has no room
        (5, 4, 4),
        (7, 1, 0),  # begins inside it, after a prefix-cache hit
        (7, 2, 2),
        (9, 30, 11),  # stops before the next
    ],
)
def test_steps_end_between_images(computed: int, new: int, taken: int) -> None:
    assert whole_images([(5, 8), (20, 50)], computed, new) == taken
