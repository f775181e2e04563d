"""Decides how tower, projector and decoder form one model behind vLLM's interfaces.

Shape letters: C images and crops, S pixels a side, K soft tokens, T tokens, D hidden.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn
from vllm.model_executor.models.interfaces import (
    MultiModalEmbeddings,
    SupportsLoRA,
    SupportsMultiModal,
    SupportsPP,
)
from vllm.model_executor.models.module_mapping import MultiModelKeys
from vllm.model_executor.models.utils import maybe_prefix
from vllm.multimodal import MULTIMODAL_REGISTRY
from vllm.sequence import IntermediateTensors

from gemma3_model import quantization
from gemma3_model.backend_choice import refuse_recorded_masks
from gemma3_model.config import patches_per_side
from gemma3_model.encoder_graphs import EncoderGraphs
from gemma3_model.preprocessing import ImagePreprocessing
from gemma3_model.processor import Gemma3DummyInputs, Gemma3Processing, Gemma3ProcessingInfo
from gemma3_model.projector import Gemma3Projector
from gemma3_model.text import Gemma3Decoder
from gemma3_model.vision import PixelNormalisation, SiglipVisionTower
from gemma3_model.weights import MULTIMODAL_WEIGHTS, PACKED_MODULES, load_weights

if TYPE_CHECKING:
    from transformers import Gemma3Config
    from vllm.config import VllmConfig


@MULTIMODAL_REGISTRY.register_processor(
    Gemma3Processing, info=Gemma3ProcessingInfo, dummy_inputs=Gemma3DummyInputs
)
class Gemma3ForConditionalGeneration(
    nn.Module, SupportsMultiModal, SupportsPP, SupportsLoRA, EncoderGraphs
):
    """Gemma 3 with images (4B, 12B, 27B, and the bundled demonstration model)."""

    packed_modules_mapping: ClassVar = PACKED_MODULES
    hf_to_vllm_mapper: ClassVar = MULTIMODAL_WEIGHTS

    supports_tower_connector_lora: ClassVar = True

    supports_mm_device_do_normalize: ClassVar = True
    """Pixels come as bytes and are normalised by the tower, always."""

    mm_prefix_clamp_sliding_window: ClassVar = True
    """Asks the runner to mask images wider than the window as images; our mask clamps queries."""

    @staticmethod
    def get_model_state_cls() -> type[Any]:
        """The state that Model Runner V2 keeps for us; see :mod:`gemma3_model.image_ranges`."""
        # Imported here: only Model Runner V2 needs it, and CPUs run V1.
        from gemma3_model.image_ranges import ImageRanges

        return ImageRanges

    @classmethod
    def get_placeholder_str(cls, modality: str, i: int) -> str | None:
        """What stands for an image in a prompt's text.

        Raises:
            ValueError: for anything but an image.
        """
        if modality.startswith("image"):
            return "<start_of_image>"
        raise ValueError(f"Gemma 3 takes images, not {modality}.")

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__()
        refuse_recorded_masks(vllm_config)
        model_config = vllm_config.model_config
        config: Gemma3Config = model_config.hf_config
        self.config = config
        self.quant_config = vllm_config.quant_config
        self.configure_mm_token_handling(
            vocab_size=config.text_config.vocab_size, mm_token_ids=[config.image_token_id]
        )
        with self._mark_tower_model(vllm_config, "image"):
            self.normalise = PixelNormalisation(
                **ImagePreprocessing.from_config(
                    model_config.hf_image_processor_config
                ).normalisation
            )
            self.vision_tower = SiglipVisionTower(
                config.vision_config,
                quantization.of_the_tower(self.quant_config, config),
                maybe_prefix(prefix, "vision_tower"),
            )
            self.multi_modal_projector = Gemma3Projector(config)
        with self._mark_language_model(vllm_config):
            self.language_model = Gemma3Decoder(
                vllm_config=vllm_config.with_hf_config(
                    config.text_config, architectures=["Gemma3ForCausalLM"]
                ),
                prefix=maybe_prefix(prefix, "language_model"),
            )
        self.make_empty_intermediate_tensors = self.language_model.make_empty_intermediate_tensors

    def embed_multimodal(
        self, *, pixel_values: Tensor | None = None, num_views: Tensor | None = None, **_: Any
    ) -> MultiModalEmbeddings:
        """Soft tokens of every image, followed by those of its crops.

        Args:
            pixel_values: [C, 3, S, S] uint8, every image followed by its crops.
            num_views: [images] how many of the C are each image's.

        Returns:
            For each image [views * K, D].
        """
        if pixel_values is None:
            return []
        assert num_views is not None
        soft_CKD = self.soft_tokens(pixel_values)
        return [soft.flatten(0, 1) for soft in soft_CKD.split(num_views.tolist())]

    def soft_tokens(self, pixel_values: Tensor) -> Tensor:
        """[C, 3, S, S] uint8 to [C, K, D]."""
        weight = self.vision_tower.post_layernorm.weight
        features = self.vision_tower(self.normalise(pixel_values, weight.dtype))
        soft_CKD: Tensor = self.multi_modal_projector(features)
        return soft_CKD

    def forward(
        self,
        input_ids: Tensor | None,
        positions: Tensor,
        intermediate_tensors: IntermediateTensors | None = None,
        inputs_embeds: Tensor | None = None,
        **_: Any,
    ) -> Tensor | IntermediateTensors:
        """[T] ids or [T, D] embeddings, soft tokens already among them, to [T, D]."""
        if intermediate_tensors is not None:
            inputs_embeds = None
        return self.language_model(input_ids, positions, intermediate_tensors, inputs_embeds)

    def compute_logits(self, hidden_states: Tensor) -> Tensor | None:
        """[T, D] hidden states, of the tokens that are sampled from, to [T, vocabulary]."""
        return self.language_model.compute_logits(hidden_states)

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> set[str]:
        """Load a checkpoint's tensors under any of the namings of :mod:`gemma3_model.weights`.

        Returns:
            The names of the parameters that were filled.

        Raises:
            ValueError: a tensor is unknown or missing.
        """
        return load_weights(self, weights, MULTIMODAL_WEIGHTS, self.quant_config)

    def get_mm_mapping(self) -> MultiModelKeys:
        """Which of our modules is the decoder, the connector and the tower."""
        return MultiModelKeys.from_string_field(
            language_model="language_model",
            connector="multi_modal_projector",
            tower_model="vision_tower",
        )

    def get_mm_lora_token_counts(
        self, *, modality: str, mm_kwargs: Any, num_mm_embeds: int
    ) -> tuple[int, int]:
        """Rows of the tower's and of the connector's products, for vLLM's LoRA kernels.

        Args:
            modality: "image".
            mm_kwargs: the image's pixels; what is needed follows from its soft tokens.
            num_mm_embeds: soft tokens of an image and its crops.

        Returns:
            Patches (16 for each soft token of the released models), and soft tokens.
        """
        patches = patches_per_side(self.config.vision_config) ** 2
        return num_mm_embeds * (patches // self.config.mm_tokens_per_image), num_mm_embeds


@MULTIMODAL_REGISTRY.register_processor(
    Gemma3Processing, info=Gemma3ProcessingInfo, dummy_inputs=Gemma3DummyInputs
)
class ShieldGemma2ForImageClassification(Gemma3ForConditionalGeneration):
    """ShieldGemma 2 (arXiv 2504.01081): a Gemma 3 4B under a wrapper's names.

    Its probability that an image violates a policy is the softmax of the logits of "Yes" and "No"
    at the first position of the answer, so it runs as a generator of one token.
    """
