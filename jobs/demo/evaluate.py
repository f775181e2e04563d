"""Measures how good the bundled model is: `python -m jobs.demo.evaluate [DIR] [--rows N]`.

It uses only held-out drawings, as JPEG files, and transformers' greedy generation in float32; tests
compare the jobs with the same.
"""

import argparse
import io
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from transformers import AutoProcessor, Gemma3ForConditionalGeneration, Gemma3Processor

from jobs.demo.dataset import held_out_scenes, jpeg
from jobs.demo.drawings import Scene
from jobs.demo.examples import conversation
from jobs.demo.phrases import (
    CAPTION_PROMPT,
    LANGUAGES,
    POLICIES,
    DrawingPolicy,
    caption,
    moderation_prompt,
    translation,
    translation_prompt,
    violates,
)
from jobs.moderation.calibration import auroc

CHECKPOINT = Path(__file__).with_name("checkpoint")
EVALUATION_SEED = 1000  # of `held_out_scenes`; the demo's own images have other seeds
_BATCH = 50
_LONGEST_ANSWER = 40  # tokens


@dataclass(frozen=True, slots=True)
class Score:
    """One line of the table: a task, its measure and value, the number of rows, the mistakes."""

    task: str
    measure: str
    value: float
    rows: int
    mistakes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReferenceModel:
    """A checkpoint that transformers runs."""

    model: Gemma3ForConditionalGeneration
    processor: Gemma3Processor

    @classmethod
    def load(cls, folder: Path) -> "ReferenceModel":
        """The checkpoint in `folder`, in float32 on the CPU."""
        model = Gemma3ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
        return cls(model.eval(), AutoProcessor.from_pretrained(folder))

    @torch.inference_mode()
    def answers(self, prompts: Sequence[str], images: Sequence[Image.Image] | None) -> list[str]:
        """The greedy answer to each prompt, each with an image before it if there are images."""
        inputs = self._inputs(prompts, images)
        tokens = self.model.generate(**inputs, max_new_tokens=_LONGEST_ANSWER, do_sample=False)
        new = tokens[:, inputs["input_ids"].shape[1] :]
        return list(self.processor.batch_decode(new, skip_special_tokens=True))

    @torch.inference_mode()
    def yes_probabilities(
        self, prompts: Sequence[str], images: Sequence[Image.Image]
    ) -> list[float]:
        """The softmax over the logits of "Yes" and "No" at the answer's first position."""
        encode = self.processor.tokenizer.encode
        verdicts = [encode(word, add_special_tokens=False)[0] for word in ("Yes", "No")]
        logits = self.model(**self._inputs(prompts, images)).logits[:, -1, verdicts]
        return [float(p) for p in logits.softmax(dim=-1)[:, 0]]

    def _inputs(
        self, prompts: Sequence[str], images: Sequence[Image.Image] | None
    ) -> dict[str, torch.Tensor]:
        texts = [
            self.processor.apply_chat_template(
                conversation(prompt, image=images is not None), add_generation_prompt=True
            )
            for prompt in prompts
        ]
        return dict(
            self.processor(
                text=texts,
                images=None if images is None else [[image] for image in images],
                add_special_tokens=False,
                padding=True,
                padding_side="left",
                return_tensors="pt",
            )
        )


def scene_image(scene: Scene) -> Image.Image:
    """The drawing as its JPEG file is decoded."""
    return Image.open(io.BytesIO(jpeg(scene))).convert("RGB")


def caption_score(model: ReferenceModel, scenes: Sequence[Scene]) -> Score:
    """The share of captions that are exactly right."""
    answers: list[str] = []
    for part in _parts(scenes):
        answers += model.answers([CAPTION_PROMPT] * len(part), [scene_image(s) for s in part])
    return _exact("caption", answers, [caption(scene) for scene in scenes])


def translation_scores(model: ReferenceModel, scenes: Sequence[Scene]) -> list[Score]:
    """The share of translations that are exactly right, for each language."""
    scores = []
    for language, name in LANGUAGES.items():
        answers: list[str] = []
        for part in _parts(scenes):
            prompts = [translation_prompt(caption(scene), language) for scene in part]
            answers += model.answers(prompts, None)
        truths = [translation(scene, language) for scene in scenes]
        scores.append(_exact(f"translation, {name}", answers, truths))
    return scores


def moderation_scores(model: ReferenceModel, scenes: Sequence[Scene]) -> list[Score]:
    """The area under the ROC curve, for each policy."""
    return [_moderation_score(model, scenes, policy) for policy in POLICIES]


def _moderation_score(
    model: ReferenceModel, scenes: Sequence[Scene], policy: DrawingPolicy
) -> Score:
    probabilities: list[float] = []
    for part in _parts(scenes):
        prompts = [moderation_prompt(policy)] * len(part)
        probabilities += model.yes_probabilities(prompts, [scene_image(s) for s in part])
    truths = [violates(scene, policy) for scene in scenes]
    return Score(f"policy, {policy.name}", "AUROC", auroc(probabilities, truths), len(scenes))


def _parts(scenes: Sequence[Scene]) -> Iterator[Sequence[Scene]]:
    return (scenes[start : start + _BATCH] for start in range(0, len(scenes), _BATCH))


def _exact(task: str, answers: Sequence[str], truths: Sequence[str]) -> Score:
    wrong = [(a, t) for a, t in zip(answers, truths, strict=True) if a != t]
    mistakes = tuple(f"{answer!r} should be {truth!r}" for answer, truth in wrong)
    return Score(task, "exact", 1 - len(wrong) / len(truths), len(truths), mistakes)


def evaluate(folder: Path, rows: int) -> list[Score]:
    """Every score of the checkpoint in `folder`, over `rows` held-out drawings each."""
    model = ReferenceModel.load(folder)
    scenes = list(itertools.islice(held_out_scenes(EVALUATION_SEED), rows))
    return [
        caption_score(model, scenes),
        *translation_scores(model, scenes),
        *moderation_scores(model, scenes),
    ]


def table(scores: Sequence[Score]) -> str:
    """The scores as a Markdown table."""
    lines = ["| task | measure | value | rows |", "| --- | --- | --- | --- |"]
    lines += [f"| {s.task} | {s.measure} | {s.value:.4f} | {s.rows} |" for s in scores]
    return "\n".join(lines)


def main() -> None:
    """Print the table, and the first mistakes of each task."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=CHECKPOINT, metavar="DIR")
    parser.add_argument("--rows", type=int, default=500)
    arguments = parser.parse_args()
    scores = evaluate(arguments.folder, arguments.rows)
    print(table(scores))
    for score in scores:
        print("".join(f"\n{score.task}: {mistake}" for mistake in score.mistakes[:5]), end="")


if __name__ == "__main__":
    main()
