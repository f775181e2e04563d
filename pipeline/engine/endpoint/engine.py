"""A server as an `InferenceEngine`: each request goes out, until it is answered or fails for good.

Decides how often a request is sent again that fails while the server answers others. It has no
process and no GPU of its own.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.contract.errors import RowError
from pipeline.contract.record import Outcome
from pipeline.engine.endpoint.availability import Availability, pause_before
from pipeline.engine.endpoint.client import Client, NoReplyError, address_of
from pipeline.engine.endpoint.completions import NoLogprobsError, generation_of
from pipeline.engine.endpoint.concurrency import Concurrency
from pipeline.engine.endpoint.renderer import EndpointRenderer
from pipeline.engine.endpoint.replies import (
    Verdict,
    message_of,
    retry_after,
    row_error,
    verdict_of,
)
from pipeline.engine.endpoint.served import (
    SMALL_SECONDS,
    check_endpoint,
    refusal_of,
    says_of,
    small_request,
)
from pipeline.engine.interface import Backend, EngineStats
from pipeline.engine.vllm_sampling import seed_of

if TYPE_CHECKING:
    from pipeline.contract.config import EngineConfig
    from pipeline.contract.task import Generation
    from pipeline.engine.endpoint.client import Address, Reply
    from pipeline.engine.endpoint.renderer import Prompt
    from pipeline.engine.interface import Rendered

TOO_MANY = 429
TRIES = 5
"""How often a request may fail of itself: in between, the server answered others."""


class EndpointEngine:
    """An `InferenceEngine` that a server is behind. Nothing is sent before the first request.

    Args:
        config: The engine.
        address: Where the server is.
    """

    def __init__(self, config: EngineConfig, *, address: Address) -> None:
        self._config = config
        self._address = address
        self._client = Client(address, config.stall_seconds)
        self._concurrency = Concurrency(config.requests(on_gpu=False))
        self._available = Availability(address.url, self._ask, config.stall_seconds)
        self._answers = 0

    @property
    def model_class(self) -> str:
        """See `InferenceEngine.model_class`; what class it is, the server does not tell."""
        return f"{self._config.model}, at an endpoint"

    async def generate(self, rendered: Rendered, key: str) -> Generation:
        """See `InferenceEngine.generate`.

        Raises:
            RowError: The server refuses this request, or has failed at it `TRIES` times.
            EngineDiedError: The server refuses every request, or has been away for too long; with
                a fault that ends the run.
        """
        prompt: Prompt = rendered.prompt
        seed = seed_of(rendered.sampling, key)
        body = {**prompt.body, **({} if seed is None else {"seed": seed})}
        reply = await self._reply(prompt.path, body)
        try:
            return generation_of(
                reply.body, rendered.sampling, continues_text=prompt.continues_text
            )
        except NoLogprobsError:
            self._available.end(
                "gives no log-probabilities, which this job needs; use a server that does, such "
                "as vLLM",
                is_users=True,
            )

    def stats(self) -> EngineStats:
        """See `InferenceEngine.stats`; `slots` is how many requests it is sent at once now."""
        return EngineStats(
            slots=self._concurrency.limit,
            running=self._concurrency.running,
            waiting=self._concurrency.waiting,
            steps=self._answers,
            note=self._available.note,
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    async def _reply(self, path: str, body: dict[str, Any]) -> Reply:
        """Send a request until there is an answer to it."""
        failed = busy = 0
        while True:
            await self._available.ready()
            async with self._concurrency.turn() as sent:
                cuts = self._concurrency.cuts
                reply = await self._sent(path, body)
                verdict = self._judged(reply, sent, cuts)
            if isinstance(reply, NoReplyError):
                failed += reply.was_sent
                await self._failed(failed, str(reply))
            elif verdict is Verdict.ANSWER:
                return reply
            elif verdict is Verdict.BUSY:
                busy += 1
                await self._available.busy(self._says(reply), retry_after(reply), busy)
            else:
                failed += verdict is Verdict.BROKEN
                await self._failed(failed, f"status {reply.status}: {self._says(reply)}")

    async def _sent(self, path: str, body: dict[str, Any]) -> Reply | NoReplyError:
        try:
            return await self._client.post(path, body)
        except NoReplyError as error:
            return error

    def _judged(self, reply: Reply | NoReplyError, sent: float, cuts: int) -> Verdict:
        """What a reply means, once everybody who has to know of it does.

        Raises:
            RowError: The request is refused.
            EngineDiedError: The run ends.
        """
        if isinstance(reply, NoReplyError):
            self._concurrency.cut(cuts)
            return Verdict.BROKEN
        verdict = verdict_of(reply, has_answered=self._answers > 0)
        if verdict is Verdict.RUN:
            says = refusal_of(reply, self._says(reply), self._config.model, self._address)
            self._available.end(says, is_users=True)
        if verdict in (Verdict.ANSWER, Verdict.ROW):
            self._available.answered()
        if verdict is Verdict.ROW:
            raise row_error(reply, self._says(reply))
        if verdict is Verdict.ANSWER:
            self._answers += 1
            self._concurrency.answered(sent)
        else:
            self._concurrency.cut(cuts)
        return verdict

    async def _failed(self, times: int, reason: str) -> None:
        """Wait until the server answers, unless the request has failed of itself too often."""
        if times >= TRIES:
            message = f"the server failed {TRIES} times at this request ({reason})"
            raise RowError(Outcome.ENGINE_ERROR, "generate", message)
        await asyncio.sleep(pause_before(max(times, 1)))
        await self._available.back(reason)

    async def _ask(self) -> str | None:
        """Send a request for one token; None if the server works, or why it does not."""
        path, body = small_request(self._config.model, is_raw=self._config.prompt_format == "raw")
        seconds = min(SMALL_SECONDS, self._config.stall_seconds)
        try:
            reply = await self._client.post(path, body, seconds)
            verdict = verdict_of(reply, has_answered=True)
            if verdict in (Verdict.ANSWER, Verdict.ROW):
                await self._check_model()
        except NoReplyError as error:
            return str(error)
        if verdict in (Verdict.BUSY, Verdict.AWAY, Verdict.BROKEN) and reply.status != TOO_MANY:
            return f"status {reply.status}: {self._says(reply)}"
        return None  # also where it would end the run, which the next request finds out

    async def _check_model(self) -> None:
        """Check that a server that comes back has the same model. Raises EngineDiedError."""
        if not self._config.served_as:
            return
        says = says_of(await self._client.get("/models", SMALL_SECONDS), self._config.model)
        if says and says != self._config.served_as:
            self._available.end(
                f"now says that '{self._config.model}' is {says}, and no longer "
                f"{self._config.served_as}; start it with the model that the run began with",
                is_users=True,
            )

    def _says(self, reply: Reply) -> str:
        return self._address.without_key(message_of(reply))


def endpoint_backend(url: str) -> Backend:
    """The backend of a server, with the key in this process's environment.

    The key travels with what makes the engine, in Ray's object store, and is written nowhere.
    """
    address = address_of(url)
    return Backend(
        name="endpoint",
        renderer=EndpointRenderer,
        engine=partial(EndpointEngine, address=address),
        follow_up_renderer=EndpointRenderer,
        holds_gpus=False,
        takes_encoded=True,
        tells_notes=True,
        check=partial(check_endpoint, address=address),
    )
