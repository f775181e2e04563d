"""A scheduler that logs which tokens it schedules; engine settings name it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vllm.v1.core.sched.output import SchedulerOutput

from gemma3_model.scheduling import BatchScheduler

COUNTS = "COUNTED_STEPS_FILE"
"""Environment variable with the file's path."""
SCHEDULER = "tests.jobs.moderation.counting.CountingScheduler"


class CountingScheduler(BatchScheduler):
    def schedule(self, *arguments: Any, **options: Any) -> SchedulerOutput:
        output = super().schedule(*arguments, **options)
        step = {
            "tokens": output.num_scheduled_tokens,
            "images": {name: len(all_) for name, all_ in output.scheduled_encoder_inputs.items()},
            "begins": {new.req_id: new.num_computed_tokens for new in output.scheduled_new_reqs},
        }
        with open(os.environ[COUNTS], "a") as file:
            file.write(json.dumps(step) + "\n")
        return output


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The sum over all requests whose name begins with a prefix."""

    tokens: int
    images: int
    begins: tuple[int, ...]
    """How many tokens of each request were cached before its first step."""


def cost(file: Path, prefix: str) -> Cost:
    steps = [json.loads(line) for line in file.read_text().splitlines()]

    def of(kind: str) -> list[int]:
        return [n for step in steps for name, n in step[kind].items() if name.startswith(prefix)]

    return Cost(tokens=sum(of("tokens")), images=sum(of("images")), begins=tuple(of("begins")))
