"""The boundary to the model: how a request is rendered, and how an engine answers it.

Two protocols, `Renderer` on the CPU actors and `Engine` on the accelerator's. Behind both is vLLM,
in `vllm_renderer` and `vllm_engine`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from PIL.Image import Image

    from pipeline.contract.config import EngineConfig
    from pipeline.contract.task import Generation, Request, Sampling


class EngineDiedError(RuntimeError):
    """An engine that cannot answer any more; none of its rows is to blame for that alone."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """An engine-ready request.

    Attributes:
        prompt: What the engine takes as it is: token ids, for images also pixels and placeholders.
        prompt_tokens: Tokens in it, soft tokens of images counted.
        sampling: As requested.
        stop_token_ids: Ids that end the answer, beside those the checkpoint's configuration names.
        scored_token_ids: Ids of the words to weigh, in their order.
        may_fail: As requested.
    """

    prompt: Any
    prompt_tokens: int
    sampling: Sampling
    stop_token_ids: tuple[int, ...] = ()
    scored_token_ids: tuple[int, ...] = ()
    may_fail: bool = False


class Renderer(Protocol):
    """Turns requests into engine-ready ones, in a process that holds no engine.

    It is a `TextMeter` as well.
    """

    @property
    def max_model_len(self) -> int:
        """Longest prompt with its answer, in tokens."""
        ...

    def count(self, text: str) -> int:
        """Tokens of a text by itself."""
        ...

    def render(self, request: Request, images: Sequence[Image]) -> Rendered:
        """Render one request with its decoded images. Raises RowError for this row alone."""
        ...


class Engine(Protocol):
    """One running model."""

    @property
    def model_class(self) -> str:
        """Module and name of the model class that was loaded."""
        ...

    async def generate(self, rendered: Rendered, key: str) -> Generation:
        """Answer one request; many run at once.

        Args:
            rendered: The request.
            key: Unique among those in flight, and the seed of a sampled answer.

        Raises:
            RowError: This request failed, and the engine goes on.
            EngineDiedError: The engine is dead.
        """
        ...

    def close(self) -> None:
        """End the engine and its processes."""
        ...


@dataclass(frozen=True)
class Backend:
    """What a run renders and generates with; both parts are made in the actors that use them.

    Attributes:
        renderer: Makes a renderer.
        engine: Makes an engine.
        holds_gpus: Whether the engine runs in the actor that makes it, which then claims the GPUs.
    """

    renderer: Callable[[EngineConfig], Renderer]
    engine: Callable[[EngineConfig], Engine]
    holds_gpus: bool = True
