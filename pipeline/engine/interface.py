"""The boundary between the stages and whatever runs the model.

A `Renderer` turns requests into prompts in CPU actors; an `InferenceEngine` answers them, in the
actor that holds the GPUs. To support another engine, implement both and pass a `Backend` of them to
`pipeline.run`; vLLM's is `vllm_engine.VLLM`, a server's `endpoint.engine.endpoint_backend`.
`backends` decides which of them a run has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from PIL.Image import Image

    from pipeline.contract.config import EngineConfig
    from pipeline.contract.errors import Fault
    from pipeline.contract.task import Generation, Request, Sampling


MakeEngine = Callable[["EngineConfig"], "InferenceEngine"]


class EngineDiedError(RuntimeError):
    """An engine that can answer nothing any more. This alone makes none of its rows fail.

    Args:
        message: How it was noticed.
        fault: Why there will be no other engine in its place; None if there may be.
    """

    def __init__(self, message: str, fault: Fault | None = None) -> None:
        super().__init__(message)
        self.fault = fault


@dataclass(frozen=True)
class Rendered:
    """A request in the form that the engine takes.

    Attributes:
        prompt: The engine's own input: token ids; with images also pixels and placeholders.
        prompt_tokens: Tokens in the prompt, soft tokens of images included.
        sampling: As in the request.
        stop_token_ids: Ids that end the answer, besides those in the checkpoint's configuration.
        scored_token_ids: Ids of the candidate first tokens whose log-probabilities are returned, in
            the order of `Sampling.score_tokens`.
        may_fail: As in the request.
        nbytes: Bytes of its images.
        adapter: Name of the LoRA adapter that answers; None for the model itself.
        labels: As in the request.
    """

    prompt: Any
    prompt_tokens: int
    sampling: Sampling
    stop_token_ids: tuple[int, ...] = ()
    scored_token_ids: tuple[int, ...] = ()
    may_fail: bool = False
    nbytes: int = 0
    adapter: str | None = None
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStats:
    """What an engine is doing, as far as it knows.

    Attributes:
        slots: Requests that it works on at once at most; 0 if it does not say.
        kv_tokens: Tokens of all requests that its KV cache holds, where none is longer than the
            sliding window, and more where some are; 0 if it does not say.
        running: Requests that it works on now.
        waiting: Requests that it has and does not work on yet.
        steps: Steps that it took since it started.
        prompt_tokens: Tokens of the prompts that it has answered since then.
        cached_tokens: Those of them that its prefix cache had.
        start: Seconds of each step of its start, in their order, such as `imports`, `weights`,
            `compile`, `graphs`.
        note: What somebody who waits for the run should know, such as that a server is away; empty
            if there is nothing.
    """

    slots: int = 0
    kv_tokens: int = 0
    running: int = 0
    waiting: int = 0
    steps: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    start: Mapping[str, float] = field(default_factory=dict)
    note: str = ""


class Renderer(Protocol):
    """Turns requests into the engine's input, in a process without an engine.

    It also satisfies `pipeline.contract.task.TextMeter`.
    """

    @property
    def max_model_len(self) -> int:
        """The longest prompt together with its answer, in tokens."""
        ...

    def count(self, text: str) -> int:
        """The number of tokens of a text on its own."""
        ...

    def render(self, request: Request, images: Sequence[Image]) -> Rendered:
        """Render one request.

        Args:
            request: The request.
            images: Its images, decoded, in the order of `request.images`; a video gives several.
                `request.labels` has the text before each, or is empty.

        Raises:
            RowError: This request cannot be rendered, for example because it is too long. Any
                other exception is taken for the row's failure as well.
        """
        ...


class FollowUpRenderer(Protocol):
    """Renders what a task asks once it has answers, in the actor that holds an engine.

    It also satisfies `pipeline.contract.task.TextMeter`.
    """

    @property
    def max_model_len(self) -> int:
        """See `Renderer`."""
        ...

    def count(self, text: str) -> int:
        """See `Renderer`."""
        ...

    def render_follow_up(self, request: Request, earlier: Rendered | None) -> Rendered:
        """Render a request that is shown the images of an earlier one, or none.

        Args:
            request: The request; it has no images of its own.
            earlier: The one whose images it is shown; None for none.

        Raises:
            RowError: See `Renderer.render`.
        """
        ...


class InferenceEngine(Protocol):
    """One running model.

    It follows all of `Sampling` (answers, seeds, JSON schema, scored tokens). It ends its own
    processes also when its actor is killed, which Ray does not do (see `orphans`), and lets a
    `watchdog` end the actor where it makes no progress for `EngineConfig.stall_seconds`.
    """

    @property
    def model_class(self) -> str:
        """Module and name of the model class that was loaded; known after the first request."""
        ...

    async def generate(self, rendered: Rendered, key: str) -> Generation:
        """Answer one request; many run concurrently.

        Args:
            rendered: The request.
            key: Unique among the requests in flight; also seeds a sampled answer.

        Raises:
            RowError: This request failed; the engine still runs.
            EngineDiedError: The engine is dead.
        """
        ...

    def stats(self) -> EngineStats:
        """What it is doing now; costs nothing that one could notice."""
        ...

    def close(self) -> None:
        """Stop the engine and its processes."""
        ...


@dataclass(frozen=True, kw_only=True)
class Backend:
    """How a run makes its renderers and engines, each in the actor that uses it.

    Attributes:
        name: What answers, for the run's record; a run is not continued with another backend.
        renderer: Makes a renderer.
        engine: Makes an engine.
        follow_up_renderer: Makes what renders follow-ups in an engine's actor; None if it has none.
        ahead: Starts what the first engine needs while Ray has yet to start on this machine, and
            gives what makes engines then; None if there is nothing to start.
        holds_gpus: Whether the engine runs inside the actor that makes it, which then claims GPUs.
        answering: Engines that answer behind each that it makes, for which rows are rendered and
            read; 1 where an engine answers itself.
        takes_encoded: Whether the renderer wants the bytes of images beside their pixels, where
            others read them as we do (`images.encoded`).
        tells_notes: Whether `EngineStats.note` is ever set.
        needs: What must be installed on the driver's machine; names of
            `supported_versions.SUPPORTED`.
        check: Checks a configuration in the driver, before anything starts; raises UserError.
    """

    name: str
    renderer: Callable[[EngineConfig], Renderer]
    engine: MakeEngine
    follow_up_renderer: Callable[[EngineConfig], FollowUpRenderer] | None = None
    ahead: Callable[[EngineConfig], AbstractContextManager[MakeEngine]] | None = None
    holds_gpus: bool = True
    answering: int = 1
    takes_encoded: bool = False
    tells_notes: bool = False
    needs: tuple[str, ...] = ()
    check: Callable[[EngineConfig], None] = lambda _: None
