"""Decides how the vision tower is trained before the whole model.

A caption says little about an image, so the tower would learn shapes from it slowly. First the
tower and the projector are trained with denser labels: each patch predicts what it shows and which
of its pixels belong to a shape, each soft token which shape's centre is in its part of the image.
The heads that predict this are dropped afterwards.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from transformers import Gemma3ForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutputWithPooling

from jobs.demo.drawings import BACKGROUNDS, COLOURS, NATIVE_SIZE, SHAPES, Scene, places
from jobs.demo.tokenizer import IMAGE_SIZE, SOFT_TOKENS

PATCH = 14  # pixels along each side
_BLOCK = 2  # pixels along each side of a block; a patch predicts how much of each is shape
_BLOCKS = (PATCH // _BLOCK) ** 2
_SIDE = int(SOFT_TOKENS**0.5)  # soft tokens along each side of the image
_COVERED = 0.15  # a patch shows a shape that covers at least this share of it
_CLASSES = {  # "nothing" is class 0 of the first three
    "shape": len(SHAPES) + 1,
    "colour": len(COLOURS) + 1,
    "role": 3,
    "background": len(BACKGROUNDS),
}
_NOTHING_WEIGHT = 0.2  # of "nothing" in the loss, since most tokens show nothing


@dataclass(frozen=True, slots=True)
class Labels:
    """What N scenes show, with classes in the order of `_CLASSES`.

    `by_role` int64 [N, 3, 4]: the classes of nothing, the subject and the other shape.
    `centres` int64 [N, 16]: the role whose centre is in each soft token's part of the image.
    `roles` uint8 [N, 1, side, side]: the role that each pixel shows.
    """

    by_role: torch.Tensor
    centres: torch.Tensor
    roles: torch.Tensor

    def __getitem__(self, rows: torch.Tensor) -> "Labels":
        return Labels(self.by_role[rows], self.centres[rows], self.roles[rows])


def label(scenes: Sequence[Scene], roles: torch.Tensor) -> Labels:
    """The labels of N scenes, whose pixels show `roles`, uint8 [N, 1, side, side]."""
    width, height = NATIVE_SIZE
    by_role = torch.zeros(len(scenes), 3, len(_CLASSES), dtype=torch.int64)
    centres = torch.zeros(len(scenes), SOFT_TOKENS, dtype=torch.int64)
    for i, scene in enumerate(scenes):
        by_role[i, :, 3] = list(BACKGROUNDS).index(scene.background)
        for role, (thing, place) in enumerate(zip(scene.things, places(scene), strict=True), 1):
            shape, colour = SHAPES.index(thing.shape) + 1, list(COLOURS).index(thing.colour) + 1
            by_role[i, role, :3] = torch.tensor([shape, colour, role])
            row, column = int(place.y * _SIDE / height), int(place.x * _SIDE / width)
            centres[i, row * _SIDE + column] = role
    return Labels(by_role, centres, roles)


def patches(roles: torch.Tensor) -> torch.Tensor:
    """The pixels [B, 1, side, side] by patch: [B, patches, 14 x 14]."""
    count = IMAGE_SIZE // PATCH
    tiles = roles.reshape(-1, count, PATCH, count, PATCH).transpose(2, 3)
    return tiles.reshape(-1, count * count, PATCH * PATCH)


def patch_roles(pixels: torch.Tensor) -> torch.Tensor:
    """The role that each patch [B, P, 14 x 14] shows: int64 [B, P]."""
    shares = torch.stack([(pixels == role).float().mean(dim=-1) for role in (1, 2)], dim=-1)
    largest, role = shares.max(dim=-1)
    return torch.where(largest >= _COVERED, role + 1, 0)


def figures(pixels: torch.Tensor) -> torch.Tensor:
    """The share of each block of each patch [B, P, 14 x 14] that is part of a shape: [B, P, 49]."""
    count = PATCH // _BLOCK
    tiles = (pixels > 0).float().reshape(*pixels.shape[:2], count, _BLOCK, count, _BLOCK)
    return tiles.mean(dim=(3, 5)).flatten(2)


class SightHeads(nn.Module):
    """Linear heads on patches and soft tokens, and their losses."""

    def __init__(self, vision_width: int, text_width: int) -> None:
        super().__init__()
        self.patch = nn.Linear(vision_width, sum(_CLASSES.values()) + _BLOCKS)
        self.soft_token = nn.Linear(text_width, sum(_CLASSES.values()))

    def forward(
        self, features: BaseModelOutputWithPooling, labels: Labels
    ) -> dict[str, torch.Tensor]:
        """The losses for B images.

        Args:
            features: What `look` returns for them.
            labels: Their labels.
        """
        pixels = patches(labels.roles)
        classes, blocks = self.patch(features.last_hidden_state).split(
            [sum(_CLASSES.values()), _BLOCKS], dim=-1
        )
        return {
            "figure": binary_cross_entropy_with_logits(blocks, figures(pixels)),
            "patch": class_loss(classes, labels.by_role, patch_roles(pixels)),
            "soft token": class_loss(
                self.soft_token(features.pooler_output), labels.by_role, labels.centres
            ),
        }


def class_loss(logits: torch.Tensor, by_role: torch.Tensor, roles: torch.Tensor) -> torch.Tensor:
    """The mean cross-entropy of T tokens over the kinds of classes.

    Args:
        logits: Of all classes, in the order of `_CLASSES`: [B, T, classes].
        by_role: The classes of each role: [B, 3, 4].
        roles: The role that each token should predict: [B, T].
    """
    targets = by_role.gather(1, roles[..., None].expand(-1, -1, by_role.shape[-1]))
    parts = logits.split(list(_CLASSES.values()), dim=-1)
    losses = []
    for i, (name, part) in enumerate(zip(_CLASSES, parts, strict=True)):
        weights = torch.ones(_CLASSES[name])
        if name != "background":
            weights[0] = _NOTHING_WEIGHT
        losses.append(cross_entropy(part.flatten(0, 1), targets[..., i].flatten(), weights))
    return torch.stack(losses).mean()


def look(model: Gemma3ForConditionalGeneration, pixels: torch.Tensor) -> BaseModelOutputWithPooling:
    """The output of the tower and the projector for uint8 pixels [B, 3, side, side].

    `last_hidden_state` has the patches [B, 64, width], `pooler_output` the soft tokens
    [B, 16, width].
    """
    return model.model.get_image_features(normalised(pixels), return_dict=True)


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 pixels as the processor normalises them: float32 from -1 to 1."""
    return pixels.float() / 127.5 - 1
