"""Decides how the vision tower runs as CUDA graphs, where ``cudagraph_mm_encoder`` asks for it.

vLLM captures the tower once for each of several batch sizes and replays the smallest that a step's
images fit into; this module says what a batch consists of. A view is an image or one of its
crops; all views have one size, so the number of views is a batch's size. What fits into no graph
runs eagerly. Off in vLLM by default.

Shape letters: C views, S pixels a side, K soft tokens of a view, D hidden of the decoder.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from vllm.model_executor.models.interfaces import SupportsEncoderCudaGraph
from vllm.v1.worker.encoder_cudagraph_defs import (
    EncoderCudaGraphCaptureInputs,
    EncoderCudaGraphConfig,
    EncoderCudaGraphReplayBuffers,
    EncoderItemSpec,
)

if TYPE_CHECKING:
    from transformers import Gemma3Config
    from vllm.config import VllmConfig


class EncoderGraphs(SupportsEncoderCudaGraph):
    """vLLM's interface to a tower that can be captured, for a model that has :meth:`soft_tokens`.

    vLLM counts a graph's size in soft tokens, its "budget", and calls an image with its crops an
    item. Its dictionaries of inputs are what the model's ``embed_multimodal`` takes.
    """

    config: Gemma3Config

    @abstractmethod
    def soft_tokens(self, pixel_values: Tensor) -> Tensor:
        """[C, 3, S, S] uint8 to [C, K, D]."""

    def get_encoder_cudagraph_config(self) -> EncoderCudaGraphConfig:
        """One graph takes one buffer, of pixels."""
        return EncoderCudaGraphConfig(
            modalities=["image"],
            buffer_keys=["pixel_values"],
            out_hidden_size=self.config.text_config.hidden_size,
        )

    def get_encoder_cudagraph_budget_range(self, vllm_config: VllmConfig) -> tuple[int, int]:
        """Soft tokens of one view, and of all the views that a step can take."""
        one = self.config.mm_tokens_per_image
        step = vllm_config.scheduler_config.max_num_batched_tokens
        return one, max(one, step // one * one)

    def get_encoder_cudagraph_item_specs(self, mm_kwargs: dict[str, Any]) -> list[EncoderItemSpec]:
        """For each image, its views and its soft tokens."""
        return [
            EncoderItemSpec(input_size=views, output_tokens=views * self.config.mm_tokens_per_image)
            for views in mm_kwargs["num_views"].tolist()
        ]

    def select_encoder_cudagraph_items(
        self, mm_kwargs: dict[str, Any], indices: list[int]
    ) -> dict[str, Any]:
        """The images of ``indices``, in that order."""
        num_views = mm_kwargs["num_views"]
        pixels = mm_kwargs["pixel_values"].split(num_views.tolist())
        chosen = [pixels[index] for index in indices]
        none = mm_kwargs["pixel_values"][:0]
        return {
            "pixel_values": torch.cat(chosen) if chosen else none,
            "num_views": num_views[indices],
        }

    def prepare_encoder_cudagraph_capture_inputs(
        self,
        token_budget: int,
        max_batch_size: int,
        max_frames_per_batch: int,
        device: torch.device,
        dtype: torch.dtype,
        path: str = "default",
        axis_keys: tuple[Any, ...] | None = None,
    ) -> EncoderCudaGraphCaptureInputs:
        """As many black views as a budget holds; not as many images, as one may have several."""
        views = token_budget // self.config.mm_tokens_per_image
        side = self.config.vision_config.image_size
        pixels = torch.zeros(views, 3, side, side, dtype=torch.uint8, device=device)
        return EncoderCudaGraphCaptureInputs(values={"pixel_values": pixels})

    def prepare_encoder_cudagraph_replay_buffers(
        self,
        mm_kwargs: dict[str, Any],
        max_batch_size: int,
        max_frames_per_batch: int,
        path: str = "default",
    ) -> EncoderCudaGraphReplayBuffers:
        """The pixels of a step; vLLM fills the buffer up with zeros."""
        return EncoderCudaGraphReplayBuffers(values={"pixel_values": mm_kwargs["pixel_values"]})

    def encoder_cudagraph_forward(self, inputs: dict[str, Tensor], path: str = "default") -> Tensor:
        """What is captured: [C, 3, S, S] uint8 to [C * K, D]."""
        return self.soft_tokens(inputs["pixel_values"]).flatten(0, 1)

    def encoder_eager_forward(self, mm_kwargs: dict[str, Any], path: str = "default") -> Tensor:
        """The same for images that fit into no graph."""
        return self.soft_tokens(mm_kwargs["pixel_values"]).flatten(0, 1)
