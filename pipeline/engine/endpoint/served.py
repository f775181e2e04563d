"""What the server says of a model, and what it is asked before a run.

Decides what takes the place of a checkpoint's files: the model's identity is its name at the
server, with what the server says it is; how it is prompted is left to the server, which has the
chat template, or is raw text. A server that does not answer, does not let us in, or refuses the
simplest request of a kind is told before anything starts.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.contract.errors import UserError, shortened
from pipeline.contract.suggest import suggestion
from pipeline.engine.endpoint.client import Client, NoReplyError
from pipeline.engine.endpoint.images import data_url
from pipeline.engine.endpoint.renderer import CHAT, COMPLETIONS
from pipeline.engine.endpoint.replies import Verdict, message_of, verdict_of
from pipeline.engine.identity import Identity
from pipeline.engine.profile import ModelProfile

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from pipeline.contract.config import EngineConfig, PromptFormat
    from pipeline.engine.endpoint.client import Address, Reply

T = TypeVar("T")

LIST_SECONDS = 15.0
"""Time for the list of models."""
SMALL_SECONDS = 60.0
"""Time for a request of one token: a server that has much to do answers late."""
TRIES = 3
PAUSE_SECONDS = 1.0
UNKNOWN_LENGTH = 2**31
"""Where the server does not say how long a prompt may be."""
SIDE = 64
"""Pixels of the image that a model is asked about before a run with images."""
SERVERS_OWN = {"dtype": "auto", "tensor_parallel_size": 1, "engine_args": {}, "pan_and_scan": False}
"""Settings of an engine that runs here, and their defaults."""


@dataclass(frozen=True, kw_only=True)
class ServedProfile(ModelProfile):
    """The profile of a model whose files are elsewhere: any Gemma 3, in its server's template."""

    @property
    def has_vision(self) -> bool:
        """Unknown; `check_endpoint` asks the server about an image."""
        return True


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """A model at a server, in the place of a `Checkpoint`.

    Attributes:
        name: Its name there.
        owner: What runs it, where the server says so: `vllm`.
        says: What the server says it is: its folder or its name on the hub.
        profile: How it is prompted, and how long a prompt with its answer may be.
    """

    name: str
    owner: str = ""
    says: str = ""
    profile: ServedProfile

    @property
    def identity(self) -> Identity:
        """Its name, with what the server says it is; the address is not part of it.

        A run that was begun where the server did not say (behind a proxy, say) can be continued.
        """
        name = f"served:{self.name}"
        is_same = self.says in ("", self.name)
        return Identity(now=name if is_same else f"{name} ({self.says})", before=name)

    def resolve(self, config: EngineConfig) -> EngineConfig:
        """The configuration with what the server decides, as `resolve_engine` for a checkpoint."""
        return config.model_copy(
            update={
                "prompt_format": self.profile.prompt_format,
                "max_model_len": min(config.max_model_len, self.profile.max_positions),
                "served_by": self.owner,
                "served_as": self.says,
            }
        )


def open_served(address: Address, model: str, prompt_format: PromptFormat | None) -> ServedModel:
    """Ask a server for a model.

    Args:
        address: Where the server is.
        model: The model's name there.
        prompt_format: How the user wants to prompt it.

    Raises:
        UserError: The server does not answer, does not let us in or has no such model; or it
            cannot be prompted so.
    """
    if prompt_format == "gemma":
        raise UserError(
            "prompt_format: gemma is for engines of the run's own; a server has the model's "
            "template, leave it out; or give raw, to have the model continue text"
        )
    listing = _asked(address, LIST_SECONDS, partial(_listing, address))
    entries = {str(entry.get("id")): entry for entry in listing}
    entry = entries.get(model, {})
    if entries and not entry:
        _ask_for_unlisted(address, model, prompt_format, entries)
    return _served(model, entry, prompt_format or "template")


def says_of(reply: Reply, model: str) -> str | None:
    """The `ServedModel.says` of a reply that lists models; None if the model is not listed."""
    entry = next((e for e in _entries(reply) if e.get("id") == model), None)
    return None if entry is None else str(entry.get("root") or "")


def check_endpoint(config: EngineConfig, *, address: Address) -> None:
    """Check that a server answers what a run will ask: before anything starts.

    Args:
        config: The engine, of a run whose columns are known.
        address: Where the server is.

    Raises:
        UserError: A setting is the server's own, or the server refuses a small request.
    """
    for name, default in SERVERS_OWN.items():
        if getattr(config, name) != default:
            raise UserError(
                f"{name}: is for engines of the run's own; leave it out with an endpoint, whose "
                "server is started with what it needs"
            )
    is_raw = config.prompt_format == "raw"
    if is_raw and config.has_images:
        raise UserError(
            "prompt_format: a server continues raw text without images only; leave it out, or "
            "leave out the endpoint"
        )
    body = small_request(config.model, is_raw=is_raw, with_image=config.has_images)
    try:
        reply = _asked(address, SMALL_SECONDS, lambda client: client.post(*body))
    except NoReplyError:
        return  # it listed its models a moment ago, and has much to do: the rows will wait
    verdict = verdict_of(reply, has_answered=False)
    if verdict is Verdict.AWAY:
        raise UserError(
            f"endpoint {address.url} has nothing at {body[0]} ({_says(address, reply)}); give its "
            "whole address, as http://host:8000/v1"
        )
    if verdict in (Verdict.ROW, Verdict.RUN):
        raise _refusal(address, reply, config.model, with_image=config.has_images)


def small_request(
    model: str, *, is_raw: bool, with_image: bool = False
) -> tuple[str, dict[str, Any]]:
    """The path and the body of a request for one token."""
    fields: dict[str, Any] = {"model": model, "max_tokens": 1, "temperature": 0.0}
    if is_raw:
        return COMPLETIONS, {**fields, "prompt": "A"}
    content: Any = "Say yes."
    if with_image:
        from PIL import Image

        url = data_url(Image.new("RGB", (SIDE, SIDE), "white"))
        content = [
            {"type": "image_url", "image_url": {"url": url}},
            {"type": "text", "text": content},
        ]
    return CHAT, {**fields, "messages": [{"role": "user", "content": content}]}


def _served(model: str, entry: Mapping[str, Any], prompt_format: PromptFormat) -> ServedModel:
    owner, length = str(entry.get("owned_by") or ""), entry.get("max_model_len")
    positions = length if isinstance(length, int) and length > 0 else UNKNOWN_LENGTH
    profile = ServedProfile(
        architecture=f"served by {owner or 'an endpoint'}",
        max_positions=positions,
        prompt_format=prompt_format,
    )
    return ServedModel(
        name=model,
        owner=owner,
        says=str(entry.get("root") or ""),
        profile=profile,
    )


async def _listing(address: Address, client: Client) -> list[Mapping[str, Any]]:
    """The models that a server lists; none where it has no list."""
    for number in range(1, TRIES + 1):
        try:
            reply = await client.get("/models")
        except NoReplyError as error:
            fault = str(error)
        else:
            verdict = verdict_of(reply, has_answered=False)
            if reply.status in (404, 405):
                return []
            if verdict is Verdict.RUN:
                raise _refusal(address, reply)
            if verdict is Verdict.ANSWER:
                return _entries(reply)
            fault = message_of(reply)
        if number < TRIES:
            await asyncio.sleep(PAUSE_SECONDS)
    raise UserError(
        f"endpoint {address.url} does not answer ({address.without_key(fault)}); start the server, "
        "or correct the address"
    )


def _entries(reply: Reply) -> list[Mapping[str, Any]]:
    data = reply.body.get("data") if isinstance(reply.body, dict) else None
    return [entry for entry in data or () if isinstance(entry, dict)]


def _ask_for_unlisted(
    address: Address, model: str, prompt_format: PromptFormat | None, known: Mapping[str, Any]
) -> None:
    """Ask for a model that is not in the list, as some servers know more than they list."""
    body = small_request(model, is_raw=prompt_format == "raw")
    try:
        reply = _asked(address, SMALL_SECONDS, lambda client: client.post(*body))
    except NoReplyError as error:
        raise UserError(f"endpoint {address.url} does not answer ({error})") from None
    if verdict_of(reply, has_answered=False) in (Verdict.ROW, Verdict.RUN, Verdict.AWAY):
        near = suggestion(model, known)
        raise UserError(
            f"model {model}: the endpoint {address.url} has no such model; {near}it has "
            f"{shortened([*known])}"
        )


def _refusal(
    address: Address, reply: Reply, model: str = "", *, with_image: bool = False
) -> UserError:
    """What is wrong with the address, the key or the model."""
    says = refusal_of(reply, _says(address, reply), model, address, with_image=with_image)
    return UserError(f"endpoint {address.url} {says}")


def _says(address: Address, reply: Reply) -> str:
    return address.without_key(message_of(reply))


def refusal_of(
    reply: Reply, says: str, model: str, address: Address, *, with_image: bool = False
) -> str:
    """What a server refuses and what to mend, after its name.

    Args:
        reply: What it replied.
        says: What it says.
        model: The model that was asked for; empty for none.
        address: Where the server is.
        with_image: Whether it was asked about an image.
    """
    if 300 <= reply.status < 400:  # noqa: PLR2004
        return f"leads to {reply.headers.get('location', 'elsewhere')}; give that address"
    if reply.status in (401, 403):
        fix = "correct the key in" if address.key else "set its key in"
        return f"does not let us in ({says}); {fix} GEMMA3_BATCH_API_KEY"
    if reply.status == 404:  # noqa: PLR2004
        return f"refuses the model '{model}' ({says}); correct its name, or the address"
    if with_image:
        return f"refuses a request with an image ({says}); is '{model}' a model with vision?"
    return f"refuses the request ({reply.status}: {says})"


def _asked(address: Address, seconds: float, ask: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
    """Ask from a process that may have an event loop of its own, as a notebook has."""

    async def asked() -> T:
        client = Client(address, seconds)
        try:
            return await ask(client)
        finally:
            await client.aclose()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, asked()).result()
