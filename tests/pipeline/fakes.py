"""A renderer and an engine without a model, for tests of load, order and faults.

The fake engine's answer is the colour of the image's middle, so that a test can tell whether each
row got its own answer.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
from PIL.Image import Image

from pipeline.contract.config import EngineConfig
from pipeline.contract.errors import RowError
from pipeline.contract.record import Outcome
from pipeline.contract.task import (
    ColumnKind,
    Generation,
    ImageRef,
    Prepared,
    Request,
    Result,
    Row,
    Sampling,
)
from pipeline.engine.interface import Backend, EngineDiedError, EngineStats, Rendered
from pipeline.engine.orphans import OrphanCleanup

POISON = (0, 0, 0)
"""Colour of an image that ends its request with an error."""
DEADLY = (255, 255, 255)
"""Colour of an image that ends the engine."""
CRASHING = (255, 0, 255)
"""Colour of an image that ends the renderer's process."""
ENDLESS = (0, 255, 255)
"""Colour of an image that the renderer never comes back from."""


class FakeRenderer:
    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.max_model_len = config.max_model_len

    def count(self, text: str) -> int:
        return len(text.split())

    def render(self, request: Request, images: Sequence[Image]) -> Rendered:
        colours = [image.getpixel((image.width // 2, image.height // 2)) for image in images]
        if CRASHING in colours:
            os.kill(os.getpid(), signal.SIGSEGV)
        if ENDLESS in colours:
            time.sleep(3600)
        length = len(request.prompt.split())
        if length > self.config.max_model_len:
            raise RowError(Outcome.TOO_LONG, "render", f"the prompt has {length} tokens")
        return Rendered((request.prompt, colours), length, request.sampling)


class FakeEngine:
    model_class = "tests.pipeline.fakes.FakeEngine"

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.closed = False

    async def generate(self, rendered: Rendered, key: str) -> Generation:
        await asyncio.sleep(random.random() / 50)  # so that answers come in another order
        prompt, colours = rendered.prompt
        if POISON in colours:
            raise RowError(Outcome.ENGINE_ERROR, "generate", "the fake engine refused this one")
        if DEADLY in colours:
            raise EngineDiedError("the fake engine died")
        text = " ".join(str(part) for colour in colours for part in colour) or prompt
        return Generation(text, rendered.prompt_tokens, len(text.split()), "stop")

    def stats(self) -> EngineStats:
        return EngineStats()

    def close(self) -> None:
        self.closed = True


FAKE = Backend(name="fake", renderer=FakeRenderer, engine=FakeEngine)


COLOUR = pa.schema([pa.field("colour", pa.list_(pa.int16()))])


@dataclass(frozen=True)
class ColourTask:
    """The image's colour, as the fake engine tells it."""

    name: str = "colour"
    columns: Mapping[str, ColumnKind] = field(default_factory=lambda: {"image": ColumnKind.IMAGE})
    result_schema: pa.Schema = COLOUR
    prompt: str = "Which colour?"

    @property
    def settings(self) -> Mapping[str, object]:
        return {"prompt": self.prompt}

    def prepare(self, row: Row) -> Prepared:
        request = Request(self.prompt, Sampling(4), images=(ImageRef(row["image"]),))
        return Prepared((request,), state={"seen": True})

    def result(self, state: object, generations: Sequence[Generation]) -> Result:
        assert state == {"seen": True}
        return Result({"colour": [int(part) for part in generations[0].text.split()]})


ANSWERED = ".answered"
"""Suffix to the model's folder: a file to which a slow engine adds a byte for each answer."""
STARTING = ".starting"
"""Suffix to the model's folder: a file to which an engine writes what it has started so far."""


class SlowEngine(FakeEngine):
    """Takes as long for a row that a test has time to kill something."""

    async def generate(self, rendered: Rendered, key: str) -> Generation:
        await asyncio.sleep(0.1)
        answer = await super().generate(rendered, key)
        with open(self.config.model + ANSWERED, "ab") as file:
            file.write(b".")
        return answer


SLOW_FAKE = Backend(name="fake", renderer=FakeRenderer, engine=SlowEngine)


class EndlessStart(FakeEngine):
    """Starts a process, as a real engine does, and is never ready."""

    def __init__(self, config: EngineConfig) -> None:
        super().__init__(config)
        self.cleanup = OrphanCleanup()
        core = subprocess.Popen(["sleep", "3600"])
        path = config.model + STARTING
        with open(path + ".tmp", "w") as file:
            file.write(str(core.pid))
        os.rename(path + ".tmp", path)
        time.sleep(3600)


STARTING_FAKE = Backend(name="fake", renderer=FakeRenderer, engine=EndlessStart)
