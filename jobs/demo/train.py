"""Decides how the bundled model is trained: `python -m jobs.demo.train --out DIR`.

It is trained from scratch on the CPU, with transformers' Gemma 3 and its real masks. First only the
vision tower learns to see (`sight`); then the whole model learns captions, translations and
verdicts; in the last stages the tower goes on learning to see at the same time. A running average
of the weights is saved. The same seed on the same machine gives the same batches; other machines
differ by rounding, which does not change the accuracy.
"""

import argparse
import math
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import AutoProcessor, Gemma3ForConditionalGeneration, Gemma3Processor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from jobs.demo.architecture import new_model
from jobs.demo.evaluate import CHECKPOINT, evaluate, table
from jobs.demo.examples import (
    IGNORED,
    Batch,
    Examples,
    model_pixels,
    model_roles,
    render,
    training_scenes,
)
from jobs.demo.save import save_model
from jobs.demo.sight import Labels, SightHeads, label, look
from jobs.demo.tokenizer import write_processor


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """The stage in which the vision tower and the projector learn alone."""

    steps: int = 2400
    images: int = 32  # per step
    learning_rate: float = 2e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Speech:
    """A stage in which the whole model learns the three tasks."""

    name: str
    steps: int
    captions: int  # per step
    others: tuple[str, ...]  # the other task of each step, in turn; "" for none
    learning_rate: float
    tower_rate: float  # the tower's learning rate, as a share of `learning_rate`
    sight: bool  # whether the losses of `sight` are added
    verdicts: int = 24  # at a time
    translations: int = 16  # at a time
    verdict_weight: float = 2.0  # a verdict's second token, <end_of_turn>, halves its loss


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that decides the result of a training run."""

    seed: int = 0
    threads: int = 2
    scenes: int = 40_000  # different drawings; none is held out
    warmup_steps: int = 50
    weight_decay: float = 0.05
    gradient_norm: float = 1.0
    average_decay: float = 0.995
    sight: Sight = Sight()
    speech: tuple[Speech, ...] = (
        Speech(
            name="speech",
            steps=1600,
            captions=32,
            others=("translation", "verdict", "verdict"),
            learning_rate=2e-3,
            tower_rate=0.25,
            sight=False,
        ),
        Speech(
            name="polish",
            steps=700,
            captions=40,
            others=("translation", "", "verdict", ""),
            learning_rate=1e-3,
            tower_rate=1.0,
            sight=True,
        ),
        Speech(
            name="finish",
            steps=400,
            captions=48,
            others=("translation", "", "verdict", ""),
            learning_rate=5e-4,
            tower_rate=1.0,
            sight=True,
        ),
    )

    @property
    def stages(self) -> int:
        """The number of stages."""
        return 1 + len(self.speech)


def train(
    recipe: Recipe, out: Path, *, start: Path | None = None, done: int = 0, save_every: int = 200
) -> None:
    """Train a model and save a complete checkpoint.

    Args:
        recipe: How to train.
        out: The checkpoint's folder. It is also saved there after each stage, and while the whole
            model is trained.
        start: A checkpoint to continue from.
        done: How many stages `start` was trained for; only the other stages follow.
        save_every: Steps between two saves.
    """
    torch.set_num_threads(recipe.threads)
    processor = write_processor(out) if start is None else take_processor(start, out)
    model = new_model(processor.tokenizer, recipe.seed)
    if start is not None:
        weights = Gemma3ForConditionalGeneration.from_pretrained(start).state_dict()
        model.load_state_dict(weights)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    scenes = training_scenes(recipe.scenes)
    pixels = render(scenes, model_pixels, recipe.threads)
    labels = label(scenes, render(scenes, model_roles, recipe.threads))
    if done == 0:
        learn_to_see(model, recipe, pixels, labels)
        save_model(model, dict(model.named_parameters()), out)
    for number, stage in list(enumerate(recipe.speech))[max(0, done - 1) :]:
        torch.manual_seed(recipe.seed)
        examples = Examples(processor, scenes, pixels, recipe.seed + number)
        average = Average(model, recipe.average_decay)
        for step in learn_to_speak(model, recipe, stage, examples, labels):
            average.update(model)
            if step % save_every == 0 or step == stage.steps:
                save_model(model, average.weights, out)
        average.give(model)


def take_processor(start: Path, out: Path) -> Gemma3Processor:
    """Copy a checkpoint to `out`, for the vocabulary that its weights were trained with."""
    shutil.copytree(start, out, dirs_exist_ok=True)
    processor: Gemma3Processor = AutoProcessor.from_pretrained(out)
    return processor


class Average:
    """The exponential average of a model's weights, which vary less than the last step's."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        self._updates = 0
        self.weights = {name: p.detach().clone() for name, p in model.named_parameters()}

    def update(self, model: nn.Module) -> None:
        """Add the model's weights as they are now; the first updates count more than later ones."""
        self._updates += 1
        share = max(1 - self._decay, 1 / self._updates)
        for name, parameter in model.named_parameters():
            self.weights[name].lerp_(parameter.detach(), share)

    @torch.no_grad()
    def give(self, model: nn.Module) -> None:
        """Set the weights of `model` to their average."""
        for name, parameter in model.named_parameters():
            parameter.copy_(self.weights[name])


def learn_to_see(
    model: Gemma3ForConditionalGeneration,
    recipe: Recipe,
    pixels: torch.Tensor,
    labels: Labels,
) -> None:
    """Train only the vision tower and the projector.

    Args:
        model: The model.
        recipe: How to train.
        pixels: The drawings, uint8 [N, 3, side, side].
        labels: What they show.
    """
    stage, heads = recipe.sight, new_heads(model)
    modules = [model.model.vision_tower, model.model.multi_modal_projector, heads]
    rates = {nn.ModuleList(modules): stage.learning_rate}
    trainer = Trainer(rates, recipe, stage.steps)
    generator = torch.Generator().manual_seed(recipe.seed)
    log = Log("sight", stage.steps)
    for step in range(1, stage.steps + 1):
        chosen = torch.randint(len(pixels), (stage.images,), generator=generator)
        losses = heads(look(model, pixels[chosen]), labels[chosen])
        trainer.step(losses)
        log.add(step, losses)


def new_heads(model: Gemma3ForConditionalGeneration) -> SightHeads:
    """Untrained heads for what `model` sees."""
    config = model.config
    return SightHeads(config.vision_config.hidden_size, config.text_config.hidden_size)


def learn_to_speak(
    model: Gemma3ForConditionalGeneration,
    recipe: Recipe,
    stage: Speech,
    examples: Examples,
    labels: Labels,
) -> Iterator[int]:
    """Train the whole model on the three tasks.

    Args:
        model: The model.
        recipe: How to train.
        stage: Which tasks, and how much of each.
        examples: Draws the batches.
        labels: What the scenes show.

    Yields:
        The number of each step, after it is done.
    """
    heads = new_heads(model) if stage.sight else None
    speakers = [model.model.language_model, model.model.multi_modal_projector]
    rates = {
        model.model.vision_tower: stage.tower_rate * stage.learning_rate,
        nn.ModuleList([*speakers, heads] if heads else speakers): stage.learning_rate,
    }
    trainer = Trainer(rates, recipe, stage.steps)
    log = Log(stage.name, stage.steps)
    for step in range(1, stage.steps + 1):
        losses = caption_losses(model, heads, examples.captions(stage.captions), labels)
        other = stage.others[step % len(stage.others)]
        if other == "translation":
            losses[other] = answer_loss(model, examples.translations(stage.translations), None)
        elif other == "verdict":
            batch = examples.verdicts(stage.verdicts)
            losses[other] = stage.verdict_weight * answer_loss(model, batch, seen(model, batch))
        trainer.step(losses)
        log.add(step, losses)
        yield step


def caption_losses(
    model: Gemma3ForConditionalGeneration, heads: SightHeads | None, batch: Batch, labels: Labels
) -> dict[str, torch.Tensor]:
    """The loss of the captions and, if there are heads, the losses of `sight`.

    Args:
        model: The model.
        heads: The heads for `sight`, or None.
        batch: Captions.
        labels: What the scenes show.
    """
    features = seen(model, batch)
    losses = {"caption": answer_loss(model, batch, features)}
    if heads is not None:
        losses |= heads(features, labels[batch.scenes])
    return losses


def seen(model: Gemma3ForConditionalGeneration, batch: Batch) -> BaseModelOutputWithPooling:
    """The output of the tower and the projector for the images of `batch`."""
    assert batch.pixels is not None, "a batch with images"
    return look(model, batch.pixels)


def answer_loss(
    model: Gemma3ForConditionalGeneration,
    batch: Batch,
    features: BaseModelOutputWithPooling | None,
) -> torch.Tensor:
    """The mean cross-entropy of the answers' tokens; only their logits are computed.

    Args:
        model: The model.
        batch: The examples.
        features: What `seen` returns for them; None for examples without images.
    """
    hidden = model.model(
        input_ids=batch.input_ids,
        token_type_ids=batch.token_type_ids,
        mm_encoder_outputs=None if features is None else {"image": features},
        use_cache=False,
    ).last_hidden_state
    targets = batch.labels[:, 1:]
    learned = targets != IGNORED
    return cross_entropy(model.lm_head(hidden[:, :-1][learned]), targets[learned])


class Trainer:
    """AdamW with warm-up and cosine decay, and clipped gradients."""

    def __init__(self, rates: dict[nn.Module, float], recipe: Recipe, steps: int) -> None:
        """Train the modules of `rates`, each at its learning rate."""
        self._parameters = [p for module in rates for p in module.parameters()]
        self._gradient_norm = recipe.gradient_norm
        self._optimizer = torch.optim.AdamW(
            [
                {
                    "params": [p for p in module.parameters() if (p.ndim > 1) == matrix],
                    "lr": learning_rate,
                    "weight_decay": recipe.weight_decay if matrix else 0.0,
                }
                for module, learning_rate in rates.items()
                for matrix in (True, False)
            ],
            betas=(0.9, 0.98),
        )
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimizer, lambda step: rate(step, steps, recipe.warmup_steps)
        )

    def step(self, losses: dict[str, torch.Tensor]) -> None:
        """One update to reduce the sum of `losses`."""
        torch.stack(list(losses.values())).sum().backward()
        nn.utils.clip_grad_norm_(self._parameters, self._gradient_norm)
        self._optimizer.step()
        self._schedule.step()
        self._optimizer.zero_grad(set_to_none=True)


def rate(step: int, steps: int, warmup_steps: int) -> float:
    """The share of the full learning rate at `step`: linear warm-up, then half a cosine to 2 %.

    Args:
        step: The step, from 0.
        steps: All steps.
        warmup_steps: Steps of the warm-up.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, steps - warmup_steps)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


class Log:
    """Prints the mean losses and the speed every few steps."""

    def __init__(self, stage: str, steps: int, every: int = 50) -> None:
        self._stage, self._steps, self._every = stage, steps, every
        self._losses: dict[str, list[float]] = {}
        self._start = time.perf_counter()

    def add(self, step: int, losses: dict[str, torch.Tensor]) -> None:
        """Record the losses of `step`."""
        for task, loss in losses.items():
            self._losses.setdefault(task, []).append(loss.item())
        if step % self._every and step != self._steps:
            return
        means = "  ".join(f"{t} {sum(v) / len(v):.4f}" for t, v in self._losses.items())
        seconds = time.perf_counter() - self._start
        timing = f"{seconds:.0f} s, {step / seconds:.2f} steps/s"
        print(f"{self._stage} {step}/{self._steps}  {means}  ({timing})", flush=True)
        self._losses.clear()


def main() -> None:
    """Train, evaluate on held-out drawings, and print the table."""
    recipe = Recipe()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=CHECKPOINT)
    parser.add_argument("--steps", type=int, help="steps of every stage, for a trial")
    parser.add_argument("--scenes", type=int, default=recipe.scenes)
    parser.add_argument("--start", type=Path, help="the checkpoint that --done stages left")
    parser.add_argument("--done", type=int, default=0, choices=range(recipe.stages))
    arguments = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    recipe = replace(recipe, scenes=arguments.scenes)
    if arguments.steps is not None:
        recipe = shortened(recipe, arguments.steps)
    train(recipe, arguments.out, start=arguments.start, done=arguments.done)
    print(table(evaluate(arguments.out, rows=500)))


def shortened(recipe: Recipe, steps: int) -> Recipe:
    """`recipe` with every stage cut to `steps`."""
    return replace(
        recipe,
        sight=replace(recipe.sight, steps=steps),
        speech=tuple(replace(stage, steps=steps) for stage in recipe.speech),
    )


if __name__ == "__main__":
    main()
