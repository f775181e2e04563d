"""Answers requests with vLLM's offline class `LLM`, for a benchmark to compare with.

The same settings as the engine of a job, the same requests, all given at once: rendered beforehand,
or as a script gives them, whose images vLLM prepares. What is left of that in a job is what the job
is worth. Decides nothing about how either runs.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from io import BytesIO
from typing import TYPE_CHECKING, Any

from PIL import Image

from pipeline.engine.vllm_sampling import sampling_params
from pipeline.engine.vllm_settings import engine_args, prepare_process

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.contract.config import EngineConfig
    from pipeline.engine.interface import Rendered


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A request as users of vLLM write it.

    Attributes:
        token_ids: The prompt, with one placeholder for each image.
        images: Its images as files hold them.
    """

    token_ids: Sequence[int]
    images: Sequence[bytes] = ()

    def for_vllm(self) -> dict[str, Any]:
        """vLLM's `TokensPrompt`."""
        if not self.images:
            return {"prompt_token_ids": [*self.token_ids]}
        images = [Image.open(BytesIO(image)).convert("RGB") for image in self.images]
        return {
            "prompt_token_ids": [*self.token_ids],
            "multi_modal_data": {"image": images},
        }


class OfflineEngine:
    """vLLM's `LLM` with the settings of an engine; made once the weights are loaded.

    Needs a process of its own: vLLM leaves much behind in it.

    Args:
        config: The engine.

    Raises:
        UserError: vLLM refuses one of `engine_args`.
    """

    def __init__(self, config: EngineConfig) -> None:
        prepare_process()
        from vllm import LLM, EngineArgs

        made = engine_args(config)
        # `LLM.from_engine_args` (0.32) takes no field that only `AsyncEngineArgs` has.
        settings = {field.name: getattr(made, field.name) for field in fields(EngineArgs)}
        self._llm = LLM(**settings)

    def generate(self, rendered: Sequence[Rendered]) -> list[int]:
        """Answer all requests.

        Args:
            rendered: The requests.

        Returns:
            The number of generated tokens of each, in their order.
        """
        params = [sampling_params(request, str(at)) for at, request in enumerate(rendered)]
        prompts = [request.prompt for request in rendered]
        if any(prompt.images for prompt in prompts):
            outputs = self._run(prompts, params)
        else:
            ids = [{"prompt_token_ids": prompt.token_ids} for prompt in prompts]
            outputs = self._llm.generate(ids, params, use_tqdm=False)
        return _tokens(outputs)

    def generate_from(self, prompts: Sequence[Prompt], rendered: Sequence[Rendered]) -> list[int]:
        """Answer all requests as a script over `LLM.generate` would: vLLM prepares the images.

        Args:
            prompts: What is asked, for vLLM to make of it what it does.
            rendered: The same requests rendered; only their sampling parameters are used.

        Returns:
            As `generate` does.
        """
        params = [sampling_params(request, str(at)) for at, request in enumerate(rendered)]
        given = [prompt.for_vllm() for prompt in prompts]
        return _tokens(self._llm.generate(given, params, use_tqdm=False))

    def _run(self, prompts: Sequence[Any], params: Sequence[Any]) -> list[Any]:
        """What `LLM.generate` does, but for the images, which it would prepare once more."""
        from gemma3_model.processor import engine_input

        engine = self._llm.llm_engine
        for at, (prompt, asked) in enumerate(zip(prompts, params, strict=True)):
            engine.add_request(str(at), engine_input(prompt), asked)
        outputs: list[Any] = []
        while engine.has_unfinished_requests():
            outputs += (output for output in engine.step() if output.finished)
        return sorted(outputs, key=lambda output: int(output.request_id))

    def close(self) -> None:
        """Stop the engine and its processes; left to the end of the process, it can hang (0.32)."""
        self._llm.llm_engine.engine_core.shutdown()


def _tokens(outputs: Sequence[Any]) -> list[int]:
    """Generated tokens of each request."""
    return [sum(len(answer.token_ids) for answer in output.outputs) for output in outputs]
