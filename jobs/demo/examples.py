"""Decides what one training step sees: images and token ids of captions, translations, verdicts.

Every example is a chat turn in the processor's template, then the answer and `<end_of_turn>`; only
the tokens of these two have labels.
"""

import io
import itertools
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from transformers import Gemma3Processor

from jobs.demo.dataset import is_held_out, jpeg
from jobs.demo.drawings import Scene, draw_roles, sample_scene
from jobs.demo.phrases import (
    CAPTION_PROMPT,
    LANGUAGES,
    POLICIES,
    caption,
    moderation_prompt,
    translation,
    translation_prompt,
    violates,
)
from jobs.demo.tokenizer import END_OF_TURN, IMAGE_SIZE

IGNORED = -100  # the label of a token without loss


@dataclass(frozen=True, slots=True)
class Batch:
    """Examples of one task, padded on the right (harmless under a causal mask).

    B examples of T tokens: `input_ids`, `token_type_ids` (1 for soft tokens) and `labels` are
    int64 [B, T]; `pixels` is uint8 [B, 3, side, side], or None for a task without images;
    `scenes` is the number of each example's scene, int64 [B].
    """

    input_ids: torch.Tensor
    token_type_ids: torch.Tensor
    labels: torch.Tensor
    pixels: torch.Tensor | None
    scenes: torch.Tensor


def conversation(prompt: str, *, image: bool) -> list[dict[str, object]]:
    """One user turn: the image if there is one, then `prompt`."""
    content: list[dict[str, str]] = [{"type": "image"}] if image else []
    return [{"role": "user", "content": [*content, {"type": "text", "text": prompt}]}]


def training_scenes(count: int) -> list[Scene]:
    """The first `count` scenes that are not held out."""
    scenes = itertools.filterfalse(is_held_out, map(sample_scene, itertools.count()))
    return list(itertools.islice(scenes, count))


def model_pixels(scene: Scene) -> np.ndarray:
    """The drawing as the model's input, after JPEG and resizing: uint8 [3, side, side]."""
    with Image.open(io.BytesIO(jpeg(scene))) as image:
        small = image.convert("RGB").resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR)
    return np.asarray(small).transpose(2, 0, 1)


def model_roles(scene: Scene) -> np.ndarray:
    """The role of each of the model's pixels, as in `draw_roles`: uint8 [1, side, side]."""
    size = (IMAGE_SIZE, IMAGE_SIZE)
    return np.asarray(draw_roles(scene).resize(size, Image.Resampling.NEAREST))[None]


def render(
    scenes: Sequence[Scene], how: Callable[[Scene], np.ndarray], processes: int
) -> torch.Tensor:
    """Render the scenes in several processes: uint8 [N, channels, side, side].

    Args:
        scenes: The N scenes.
        how: `model_pixels` or `model_roles`.
        processes: How many processes.
    """
    channels = how(scenes[0]).shape[0]
    pixels = torch.empty(len(scenes), channels, IMAGE_SIZE, IMAGE_SIZE, dtype=torch.uint8)
    with ProcessPoolExecutor(processes) as pool:
        for i, image in enumerate(pool.map(how, scenes, chunksize=256)):
            pixels[i] = torch.from_numpy(image)
    return pixels


class Examples:
    """Draws batches of the three tasks from a fixed set of scenes.

    The seed and the order of the calls decide the batches.
    """

    def __init__(
        self,
        processor: Gemma3Processor,
        scenes: Sequence[Scene],
        pixels: torch.Tensor,
        seed: int,
    ) -> None:
        self._processor = processor
        self._scenes = scenes
        self._pixels = pixels
        self._rng = random.Random(seed)  # noqa: S311 - not for cryptography
        self._image_token = processor.tokenizer.image_token_id
        self._prompt_ids: dict[str, list[int]] = {}
        self._by_verdict = {
            policy.name: {
                verdict: [i for i, scene in enumerate(scenes) if violates(scene, policy) is verdict]
                for verdict in (False, True)
            }
            for policy in POLICIES
        }

    def captions(self, size: int) -> Batch:
        """Images and their captions."""
        chosen = self._rng.choices(range(len(self._scenes)), k=size)
        pairs = [(CAPTION_PROMPT, caption(self._scenes[i])) for i in chosen]
        return self._batch(pairs, chosen, images=True)

    def translations(self, size: int) -> Batch:
        """Captions and their translations into any of the languages."""
        chosen = self._rng.choices(range(len(self._scenes)), k=size)
        languages = self._rng.choices(list(LANGUAGES), k=size)
        pairs = [
            (translation_prompt(caption(scene), language), translation(scene, language))
            for scene, language in zip((self._scenes[i] for i in chosen), languages, strict=True)
        ]
        return self._batch(pairs, chosen, images=False)

    def verdicts(self, size: int) -> Batch:
        """Images and the verdicts of any of the policies, "Yes" as often as "No"."""
        pairs, chosen = [], []
        for policy in self._rng.choices(POLICIES, k=size):
            violated = self._rng.choice((False, True))
            chosen.append(self._rng.choice(self._by_verdict[policy.name][violated]))
            pairs.append((moderation_prompt(policy), "Yes" if violated else "No"))
        return self._batch(pairs, chosen, images=True)

    def _batch(self, pairs: list[tuple[str, str]], chosen: list[int], *, images: bool) -> Batch:
        questions = [self._question(prompt, images) for prompt, _ in pairs]
        answers = [self._tokens(answer + END_OF_TURN) for _, answer in pairs]
        width = max(len(q) + len(a) for q, a in zip(questions, answers, strict=True))
        input_ids = torch.zeros(len(pairs), width, dtype=torch.int64)
        labels = torch.full_like(input_ids, IGNORED)
        for row, (question, answer) in enumerate(zip(questions, answers, strict=True)):
            start, end = len(question), len(question) + len(answer)
            input_ids[row, :end] = torch.tensor(question + answer)
            labels[row, start:end] = torch.tensor(answer)
        token_types = (input_ids == self._image_token).long()
        pixels = self._pixels[chosen] if images else None
        return Batch(input_ids, token_types, labels, pixels, torch.tensor(chosen))

    def _question(self, prompt: str, image: bool) -> list[int]:
        """The ids of the prompt in its template, with the image's soft tokens."""
        if image and prompt in self._prompt_ids:
            return self._prompt_ids[prompt]
        text = self._processor.apply_chat_template(
            conversation(prompt, image=image), add_generation_prompt=True
        )
        expanded = text.replace(self._processor.boi_token, self._processor.full_image_sequence)
        ids = self._tokens(expanded)
        if image:
            self._prompt_ids[prompt] = ids
        return ids

    def _tokens(self, text: str) -> list[int]:
        return list(self._processor.tokenizer.encode(text, add_special_tokens=False))
