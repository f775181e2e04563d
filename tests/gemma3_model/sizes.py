"""The configurations of the five released sizes. A benchmark uses it, so it needs no pytest."""

from __future__ import annotations

from transformers import Gemma3Config, Gemma3TextConfig, SiglipVisionConfig

SHAPES = {  # hidden, intermediate, layers, heads, key heads, head_dim, query_pre_attn_scalar
    "270m": (640, 2048, 18, 4, 1, 256, 256),
    "1b": (1152, 6912, 26, 4, 1, 256, 256),
    "4b": (2560, 10240, 34, 8, 4, 256, 256),
    "12b": (3840, 15360, 48, 16, 8, 256, 256),
    "27b": (5376, 21504, 62, 32, 16, 128, 168),
}
TEXT_ONLY = ("270m", "1b")


def text_config(size: str) -> Gemma3TextConfig:
    hidden, intermediate, layers, heads, kv_heads, head_dim, scalar = SHAPES[size]
    return Gemma3TextConfig(
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        query_pre_attn_scalar=scalar,
        vocab_size=262_144 if size in TEXT_ONLY else 262_208,
        sliding_window=512 if size in TEXT_ONLY else 1024,
        max_position_embeddings=32_768 if size in TEXT_ONLY else 131_072,
        architectures=["Gemma3ForCausalLM"],
    )


def config(size: str) -> Gemma3TextConfig | Gemma3Config:
    if size in TEXT_ONLY:
        return text_config(size)
    vision = SiglipVisionConfig(
        hidden_size=1152,
        intermediate_size=4304,
        num_hidden_layers=27,
        num_attention_heads=16,
        image_size=896,
        patch_size=14,
        vision_use_head=False,
    )
    return Gemma3Config(
        text_config=text_config(size),
        vision_config=vision,
        architectures=["Gemma3ForConditionalGeneration"],
    )
