"""An engine's process without vLLM: it does what the model's name and its requests say."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import sys
import time
from dataclasses import replace

from pipeline.contract.errors import RowError
from pipeline.contract.record import Outcome
from pipeline.contract.task import Generation
from pipeline.engine.channel import (
    Abort,
    Ask,
    Channel,
    Close,
    Died,
    NotStarted,
    Progress,
    Ready,
    Starting,
)
from pipeline.engine.vllm_process import accepted, end_with_parent, is_listening


def answer(message: Ask) -> Generation | RowError:
    """Says what came in."""
    prompt = message.rendered.prompt
    if isinstance(prompt, str) and prompt == "refuse":
        return RowError(Outcome.ENGINE_ERROR, "generate", "not this one")
    text = f"{prompt.shape} {prompt.sum()}" if hasattr(prompt, "shape") else str(prompt)
    return Generation(text, 1, 1, "stop")


def main() -> None:
    print("vLLM warns on its standard output", flush=True)
    end = socket.socket(fileno=int(sys.argv[1]))
    if is_listening(end):
        pickle.load(sys.stdin.buffer)
        taken_over = end_with_parent()
        channel = Channel(accepted(end))
        taken_over.set()
    else:
        channel = Channel(end)
    model = channel.receive().config.model
    if model in ("refused", "failed"):
        channel.send(NotStarted(f"{model} because of this", is_users=model == "refused"))
        channel.flush(5)
        sys.exit(1)
    if model == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    for step in ("imports", "weights"):
        channel.send(Starting(step, time.time()))
    channel.send(Ready(model_class="light", slots=7, kv_tokens=70, at=time.time()))
    aborted = []
    while not isinstance(message := channel.receive(), Close):
        if isinstance(message, Abort):
            aborted.append(str(message.number))
            continue
        prompt = message.rendered.prompt
        match prompt if isinstance(prompt, str) else "":
            case "segfault":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "die":
                channel.send(Died("out of memory"))
                channel.flush(5)
                sys.exit(1)
            case "stall":
                time.sleep(3600)
            case "wait":
                continue
            case "aborted":
                rendered = replace(message.rendered, prompt=",".join(aborted))
                message = Ask(message.number, message.key, rendered)
        answers = {message.number: answer(message)}
        channel.send(Progress(answers=answers, running=3, waiting=2, steps=1))


if __name__ == "__main__":
    main()
