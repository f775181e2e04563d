"""Decides which tokens leave the engine core, and when: those of a bulk answer all at its end.

vLLM 0.32 sends every token out by itself, to a front end that detokenizes it, also where a request
asked for its final output only. Here a request's tokens stay until it ends and leave together; the
front end then goes over them one by one as it would have, so the text is the same. Whoever must see
every token still does: requests that stream, stop at a text, or want log-probabilities, and engines
that keep statistics. A request that wants only the sum of its tokens' log-probabilities says so
(`SUM_OF_LOGPROBS`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from vllm.sampling_params import RequestOutputKind
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.outputs import LogprobsLists
from vllm.v1.request import RequestStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs
    from vllm.v1.metrics.stats import PrefillStats
    from vllm.v1.outputs import ModelRunnerOutput
    from vllm.v1.request import Request

SUM_OF_LOGPROBS = "sum_of_logprobs"
"""In a request's `extra_args`, beside `logprobs=0`: of its log-probabilities the sum alone counts,
which is then `CompletionOutput.cumulative_logprob`."""


def only_its_end_counts(request: Request) -> bool:
    """Whether nobody looks at a request's tokens before the last one."""
    params = request.sampling_params
    return (
        params is not None
        and params.output_kind == RequestOutputKind.FINAL_ONLY
        and not params.stop
        and (params.num_logprobs is None or only_the_sum_counts(request))
        and params.prompt_logprobs is None
        and not request.resumable
    )


def only_the_sum_counts(request: Request) -> bool:
    """Whether a request wants its tokens' log-probabilities as a sum."""
    params = request.sampling_params
    asks = params is not None and (params.extra_args or {}).get(SUM_OF_LOGPROBS)
    return bool(asks) and params is not None and params.num_logprobs == 0


class FinalOutputs(Scheduler):
    """Keeps the outputs of requests whose end alone counts until then."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._kept: dict[str, Request] = {}
        self._prefills: dict[str, PrefillStats] = {}
        self._sums: dict[str, float] = {}
        # Each of these goes out with every token and would have to be joined.
        self._may_keep = not (
            self.log_stats or self.return_sampling_mask or self.aux_output_connector
        )

    def add_request(self, request: Request) -> None:
        """See vLLM's interface."""
        super().add_request(request)
        if self._may_keep and only_its_end_counts(request):
            self._kept[request.request_id] = request
            if only_the_sum_counts(request):
                self._sums[request.request_id] = 0.0

    def finish_requests(
        self, request_ids: str | Iterable[str] | None, finished_status: RequestStatus
    ) -> list[Request]:
        """See vLLM's interface; an aborted request has no output that could end its keeping."""
        finished: list[Request] = super().finish_requests(request_ids, finished_status)
        if finished_status == RequestStatus.FINISHED_ABORTED:
            for request in finished:
                self._kept.pop(request.request_id, None)
                self._prefills.pop(request.request_id, None)
                self._sums.pop(request.request_id, None)
        return finished

    def update_from_output(
        self, scheduler_output: SchedulerOutput, model_runner_output: ModelRunnerOutput
    ) -> dict[int, EngineCoreOutputs]:
        """See vLLM's interface; a client that gets nothing from a step is left out."""
        sent: dict[int, EngineCoreOutputs]
        sent = super().update_from_output(scheduler_output, model_runner_output)
        for client, outputs in list(sent.items()):
            outputs.outputs = list(self._leaving(outputs.outputs))
            carries_more = outputs.finished_requests or outputs.scheduler_stats
            if not (outputs.outputs or carries_more):
                del sent[client]
        return sent

    def _leaving(self, outputs: Iterable[EngineCoreOutput]) -> Iterator[EngineCoreOutput]:
        for output in outputs:
            name = output.request_id
            request = self._kept.get(name)
            if request is None:
                yield output
                continue
            if output.new_logprobs is not None:
                self._sums[name] += float(output.new_logprobs.logprobs[:, 0].sum())
            if output.finish_reason is None:
                if output.prefill_stats is not None:  # comes with the first token
                    self._prefills[name] = output.prefill_stats
            else:
                del self._kept[name]
                output.new_token_ids = request.output_token_ids.copy()
                output.prefill_stats = self._prefills.pop(name, output.prefill_stats)
                output.new_logprobs = _as_one(output.new_token_ids, self._sums.pop(name, None))
                yield output


def _as_one(ids: Sequence[int], total: float | None) -> LogprobsLists | None:
    """A sum of log-probabilities, as if it were that of the answer's last token."""
    if total is None or not ids:
        return None
    return LogprobsLists(np.array([[ids[-1]]]), np.array([[total]]), np.array([0]))
