"""Decides the bundled model's size: a Gemma 3 in everything but its dimensions.

It has six text layers, five local and one global as in every Gemma 3. The local window is longer
than an image's soft tokens and shorter than the prompts, so that it makes a difference. A SigLIP
tower's 64 patches are pooled to 16 soft tokens. Every dimension is a multiple of 32, as vLLM's CPU
attention and four-bit weights require.
"""

import torch
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    GemmaTokenizer,
    GenerationConfig,
    SiglipVisionConfig,
)

from jobs.demo.tokenizer import END_OF_TURN, IMAGE_SIZE, SOFT_TOKENS

HEAD_DIM = 32


def model_config(tokenizer: GemmaTokenizer) -> Gemma3Config:
    """The configuration of the bundled model, with the token ids of `tokenizer`."""
    ids = {
        f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<{name}>")
        for name in ("pad", "eos", "bos")
    }
    return Gemma3Config(
        text_config=_text_config(len(tokenizer), ids),
        vision_config=_vision_config(),
        mm_tokens_per_image=SOFT_TOKENS,
        boi_token_index=tokenizer.boi_token_id,
        eoi_token_index=tokenizer.eoi_token_id,
        image_token_index=tokenizer.image_token_id,
        tie_word_embeddings=True,
        architectures=["Gemma3ForConditionalGeneration"],
        dtype="float32",
        **{**ids, "eos_token_id": stop_tokens(tokenizer)},
    )


def _text_config(vocab_size: int, ids: dict[str, int]) -> Gemma3TextConfig:
    return Gemma3TextConfig(
        vocab_size=vocab_size,
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=HEAD_DIM,
        query_pre_attn_scalar=HEAD_DIM,
        sliding_window=48,
        max_position_embeddings=1024,
        initializer_range=0.05,
        tie_word_embeddings=True,
        dtype="float32",
        **ids,
    )


def _vision_config() -> SiglipVisionConfig:
    return SiglipVisionConfig(
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=IMAGE_SIZE,
        patch_size=14,
        vision_use_head=False,
        dtype="float32",
    )


def stop_tokens(tokenizer: GemmaTokenizer) -> list[int]:
    """The ids that end an answer, as Gemma 3's generation configuration lists them."""
    return [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(END_OF_TURN)]


def new_model(tokenizer: GemmaTokenizer, seed: int) -> Gemma3ForConditionalGeneration:
    """An untrained model, the same for the same `seed`.

    transformers initialises the projector to zero, so the first steps would see nothing; here it
    starts like a linear layer of its width.
    """
    torch.manual_seed(seed)
    model = Gemma3ForConditionalGeneration._from_config(
        model_config(tokenizer), attn_implementation="sdpa"
    )
    torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight, std=0.05)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=stop_tokens(tokenizer),
        do_sample=False,
    )
    return model
