"""No step of vLLM's real schedulers ends inside an image, whether they run ahead or not."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from vllm import SamplingParams
from vllm.multimodal.inputs import MultiModalFeatureSpec, PlaceholderRange
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request

from gemma3_model.scheduling import BatchAsyncScheduler, BatchScheduler
from tests.gemma3_model.checkpoints import SOFT_TOKENS
from tests.gemma3_model.scheduling.steps import build, configure, made


def requests(count: int) -> Iterator[Request]:
    """Images among text of random lengths; every third prompt comes a second time."""
    chance = random.Random(0)
    for number in range(count):
        ids: list[int] = []
        places = []
        for image in range(chance.randrange(1, 4)):
            ids += [7 + number] * chance.randrange(1, 30)
            places.append((len(ids), f"{number}-{image}"))
            ids += [5] * SOFT_TOKENS
        ids += [6] * chance.randrange(1, 30)
        for copy in range(2 if number % 3 == 0 else 1):
            yield request(f"{number}-{copy}", ids, places)


def request(name: str, ids: list[int], places: Sequence[tuple[int, str]]) -> Request:
    return made(
        name,
        ids,
        SamplingParams(max_tokens=12, ignore_eos=True),
        mm_features=[
            MultiModalFeatureSpec(
                data=None,
                modality="image",
                identifier=image,
                mm_position=PlaceholderRange(offset=first, length=SOFT_TOKENS),
            )
            for first, image in places
        ],
    )


@dataclass(frozen=True, kw_only=True)
class Share:
    """A request's tokens in one step: from ``begin`` to before ``end``."""

    request: Request
    begin: int
    end: int

    @property
    def cut(self) -> tuple[int, int] | None:
        """First and last position of the image that the step ends in, if it does."""
        for feature in self.request.mm_features:
            ((first, last),) = feature.mm_position.extract_embeds_range()
            if first < self.end <= last:
                return first, last
        return None


def shares(scheduler: Scheduler, output: SchedulerOutput) -> list[Share]:
    return [
        Share(
            request=scheduler.requests[name],
            begin=scheduler.requests[name].num_computed_tokens - count,
            end=scheduler.requests[name].num_computed_tokens,
        )
        for name, count in output.num_scheduled_tokens.items()
    ]


def answer(step: Sequence[Share]) -> ModelRunnerOutput:
    """A token for every request whose prompt is computed."""
    names = [share.request.request_id for share in step]
    return ModelRunnerOutput(
        req_ids=names,
        req_id_to_index={name: index for index, name in enumerate(names)},
        sampled_token_ids=[
            [9] if share.end >= share.request.num_prompt_tokens else [] for share in step
        ],
    )


def run(scheduler: Scheduler, *, runs_ahead: bool) -> list[Share]:
    """All steps of forty requests, new ones coming as there is room."""
    coming = deque(requests(40))
    everyone = list(coming)
    in_flight: deque[tuple[SchedulerOutput, list[Share]]] = deque()
    seen = []
    for _ in range(2000):
        if coming:
            scheduler.add_request(coming.popleft())
        output = scheduler.schedule()
        step = shares(scheduler, output)
        seen += step
        in_flight.append((output, step))
        if len(in_flight) > int(runs_ahead):
            done, of_it = in_flight.popleft()
            scheduler.update_from_output(done, answer(of_it))
        if not coming and not scheduler.has_unfinished_requests():
            break
    assert all(each.num_output_tokens == 12 for each in everyone), "not every request was served"
    return seen


@pytest.mark.parametrize(
    ("runs_ahead", "theirs", "ours"),
    [
        (False, Scheduler, BatchScheduler),
        (True, AsyncScheduler, BatchAsyncScheduler),
    ],
)
def test_the_kind_vllm_would_take(
    checkpoint: Path, runs_ahead: bool, theirs: type[Scheduler], ours: type[Scheduler]
) -> None:
    config = configure(checkpoint, runs_ahead=runs_ahead)
    assert type(build(config)) is ours
    config.scheduler_config.scheduler_cls = None
    assert config.scheduler_config.get_scheduler_cls() is theirs
    assert issubclass(ours, theirs)


@pytest.mark.parametrize("runs_ahead", [False, True])
def test_no_step_ends_inside_an_image(checkpoint: Path, runs_ahead: bool) -> None:
    scheduler = build(configure(checkpoint, runs_ahead=runs_ahead))
    assert [share for share in run(scheduler, runs_ahead=runs_ahead) if share.cut] == []


@pytest.mark.parametrize(("runs_ahead", "theirs"), [(False, Scheduler), (True, AsyncScheduler)])
def test_vllm_s_own_steps_do(checkpoint: Path, runs_ahead: bool, theirs: type[Scheduler]) -> None:
    """After a cut, when a step begins with an image, and after a cache hit, when inside one."""
    scheduler = build(configure(checkpoint, runs_ahead=runs_ahead, scheduler_cls=theirs))
    cuts = [share for share in run(scheduler, runs_ahead=runs_ahead) if share.cut]
    assert [share for share in cuts if share.begin == share.cut[0]]
    assert [share for share in cuts if share.begin > share.cut[0]]
