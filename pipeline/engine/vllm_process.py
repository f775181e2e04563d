"""The process in which vLLM runs our model: `python -m pipeline.engine.vllm_process SOCKET`.

vLLM's engine and its core run in one process, step after step, and nothing else does: no Ray, no
event loop, no reading or writing but by two threads. So vLLM is imported once, and nothing outside
can hold up a step. Decides which failure is a row's and which the engine's, and when requests are
taken in: between two steps. `vllm_engine` is the other end.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import socket
import sys
import time
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.contract.errors import RowError, UserError, one_line
from pipeline.contract.record import Outcome
from pipeline.contract.task import Generation
from pipeline.engine.channel import (
    Abort,
    Ask,
    Begin,
    Channel,
    Close,
    Died,
    NotStarted,
    Progress,
    Ready,
    Starting,
)
from pipeline.engine.detokenizer import Detokenizer
from pipeline.engine.vllm_sampling import sampling_params
from pipeline.engine.vllm_start import import_vllm, load_adapters, start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pipeline.engine.interface import Rendered

SIGN_OF_LIFE_SECONDS = 1.0
FLUSH_SECONDS = 10.0
FINISHED = ("stop", "length", "repetition")
"""Reasons of vLLM for the end of an answer; the others are failures."""


def main() -> None:
    """Serve the socket whose number is the argument, until it closes or the engine dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the keyboard's; the other end decides
    end = socket.socket(fileno=int(sys.argv[1]))
    if is_listening(end):
        engine, channel = _started_ahead(end)
    else:
        channel = Channel(end)
        engine = _started(channel.receive(), channel.send)
    if engine is None:
        channel.flush(FLUSH_SECONDS)
        sys.exit(1)
    try:
        _Steps(*engine, channel).run()
    except Exception as error:
        logging.getLogger(__name__).exception("the engine died")
        channel.send(Died(one_line(error)))
        channel.flush(FLUSH_SECONDS)
        sys.exit(1)
    engine.vllm.engine_core.shutdown()
    os._exit(0)  # there is nothing left to do, for which Python would take seconds


def is_listening(end: socket.socket) -> bool:
    """Whether this process was started ahead of the one who will ask it (`engine_process`)."""
    return bool(end.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


class _Engine(NamedTuple):
    """vLLM's `LLMEngine`, and its `LoRARequest` for each adapter by name."""

    vllm: Any
    adapters: Mapping[str, Any]


def _started_ahead(listener: socket.socket) -> tuple[_Engine | None, Channel]:
    """An engine, or None, and the channel to whoever takes it over, who is told of its start."""
    begin: Begin | None = pickle.load(sys.stdin.buffer)  # noqa: S301  from our own parent
    taken_over = end_with_parent()
    told: list[object] = []
    engine = None
    if begin is None:
        import_vllm()
    else:
        engine = _started(begin, told.append)
    channel = Channel(accepted(listener))
    taken_over.set()
    asked = channel.receive()
    if begin is None:
        return _started(asked, channel.send), channel
    assert asked.config == begin.config, "it was started for another run"
    for message in told:
        channel.send(message)
    return engine, channel


def end_with_parent() -> Event:
    """End this process when its parent has, until the event that is returned is set."""
    taken_over = Event()

    def watch() -> None:
        while os.read(0, 1):
            pass
        if not taken_over.is_set():
            os._exit(0)

    Thread(target=watch, name="parent", daemon=True).start()
    return taken_over


def accepted(listener: socket.socket) -> socket.socket:
    """Wait for the one who asks; print where they print from now on."""
    ours, _ = listener.accept()
    listener.close()
    _, output, _, _ = socket.recv_fds(ours, 1, 2)
    for theirs, mine in zip(output, (1, 2), strict=True):
        os.dup2(theirs, mine)
        os.close(theirs)
    return ours


def _started(begin: Begin, send: Callable[[object], None]) -> _Engine | None:
    """The engine, once it is loaded; or None, and the other end is told why."""
    try:
        os.environ.update(begin.environment)
        send(Starting("imports", time.time()))
        vllm = start(begin.config, lambda step: send(Starting(step, time.time())))
        engine = _Engine(vllm, load_adapters(vllm, begin.config))
        send(_ready(vllm))
    except UserError as error:
        send(NotStarted(str(error), is_users=True))
    except Exception as error:
        logging.getLogger(__name__).exception("the engine did not start")
        send(NotStarted(one_line(error), is_users=False))
    else:
        return engine
    return None


def _ready(engine: Any) -> Ready:
    cache = _scheduler(engine).kv_cache_config
    # Of texts that fit into the window: each group of layers keeps every token of them.
    blocks_per_token = sum(1 / group.kv_cache_spec.block_size for group in cache.kv_cache_groups)
    return Ready(
        model_class=engine.collective_rpc("loaded_model_class")[0],
        slots=engine.vllm_config.scheduler_config.max_num_seqs,
        kv_tokens=int(cache.num_blocks / blocks_per_token),
        at=time.time(),
    )


def _scheduler(engine: Any) -> Any:
    return engine.engine_core.engine_core.scheduler


class _Steps:
    """Requests in, steps, answers out.

    Args:
        engine: vLLM's `LLMEngine`.
        adapters: vLLM's `LoRARequest` by name.
        channel: To the one who asks.
    """

    def __init__(self, engine: Any, adapters: Mapping[str, Any], channel: Channel) -> None:
        from gemma3_model.processor import engine_input

        self._engine = engine
        self._adapters = adapters
        self._detokenizer = Detokenizer(engine.get_tokenizer())
        self._engine_input = engine_input
        self._channel = channel
        self._inbox: SimpleQueue[Any] = SimpleQueue()
        self._asked: dict[int, Rendered] = {}
        self._steps = self._prompt_tokens = self._cached_tokens = 0
        self._told = 0.0

    def run(self) -> None:
        """Until the other end closes."""
        Thread(target=self._receive, name="requests", daemon=True).start()
        while True:
            answers: dict[int, Generation | RowError] = {}
            for message in self._messages():
                if isinstance(message, Close):
                    return
                self._take(message, answers)
            if self._asked:
                answers.update(self._step())
            self._tell(answers)

    def _receive(self) -> None:
        try:
            while True:
                self._inbox.put(self._channel.receive())
        except EOFError:
            self._inbox.put(Close())
        except Exception:  # what the other end sent cannot be read here
            logging.getLogger(__name__).exception("the engine ends")
            self._inbox.put(Close())

    def _messages(self) -> Iterator[Any]:
        """What has come in; without work, what comes in within a second."""
        try:
            if not self._asked:
                yield self._inbox.get(timeout=SIGN_OF_LIFE_SECONDS)
            while True:
                yield self._inbox.get_nowait()
        except Empty:
            return

    def _take(self, message: Ask | Abort, answers: dict[int, Generation | RowError]) -> None:
        number = message.number
        name = f"{message.key}#{number}"  # in vLLM's own messages; the key alone may be there twice
        if isinstance(message, Abort):
            if self._asked.pop(number, None) is not None:
                self._engine.abort_request([name])
            return
        rendered = message.rendered
        try:
            prompt = self._engine_input(rendered.prompt)
            adapter = None if rendered.adapter is None else self._adapters[rendered.adapter]
            parameters = sampling_params(rendered, message.key)
            self._engine.add_request(name, prompt, parameters, lora_request=adapter)
            self._asked[number] = rendered
        except Exception as error:  # vLLM refuses this request
            answers[number] = _failure(one_line(error.__cause__ or error))

    def _step(self) -> Iterator[tuple[int, Generation | RowError]]:
        self._steps += 1
        for output in self._engine.step():
            if output.finished:
                number = int(output.request_id.rpartition("#")[2])
                yield number, self._answer(output, self._asked.pop(number))

    def _answer(self, output: Any, rendered: Rendered) -> Generation | RowError:
        """What vLLM's finished `RequestOutput` says."""
        first, *_ = output.outputs
        self._prompt_tokens += len(output.prompt_token_ids)
        self._cached_tokens += output.num_cached_tokens or 0
        if first.finish_reason not in FINISHED:
            return _failure(f"the engine ended the request ({first.finish_reason})")
        text, *others = [
            self._detokenizer.answer(each, output.prompt_token_ids, stop=rendered.sampling.stop)
            for each in output.outputs
        ]
        scored = rendered.scored_token_ids
        return Generation(
            text=text,
            prompt_tokens=len(output.prompt_token_ids),
            output_tokens=sum(len(answer.token_ids) for answer in output.outputs),
            finish_reason=first.finish_reason,
            others=tuple(others),
            log_probabilities=tuple(first.logprobs[0][token].logprob for token in scored),
            mean_log_probability=(
                _mean_log_probability(first) if rendered.sampling.mean_log_probability else None
            ),
        )

    def _tell(self, answers: dict[int, Generation | RowError]) -> None:
        """Send answers at once, and a sign of life now and then."""
        now = time.monotonic()
        if not answers and now - self._told < SIGN_OF_LIFE_SECONDS:
            return
        self._told = now
        running, waiting = _scheduler(self._engine).get_request_counts()
        self._channel.send(
            Progress(
                answers=answers,
                running=running,
                waiting=waiting,
                steps=self._steps,
                prompt_tokens=self._prompt_tokens,
                cached_tokens=self._cached_tokens,
            )
        )


def _mean_log_probability(answer: Any) -> float | None:
    """By token of an answer (`CompletionOutput`), the one that ended it included."""
    count = len(answer.token_ids)
    return float(answer.cumulative_logprob) / count if count else None


def _failure(message: str) -> RowError:
    return RowError(Outcome.ENGINE_ERROR, "generate", message)


if __name__ == "__main__":
    main()
