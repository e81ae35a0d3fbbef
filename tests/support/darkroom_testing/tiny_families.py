"""Base models of each family at the smallest size, with random weights; pictures of 32 x 32."""

import json
import string
from pathlib import Path
from typing import Any

TOKENS = 24
"""Longest prompt of their CLIP text encoders."""


def write_letter_tokenizer(folder: Path) -> tuple[Any, int]:
    """A CLIP tokenizer that knows single letters, enough to tell prompts apart; with the number of its tokens."""
    from transformers import CLIPTokenizer

    folder.mkdir(parents=True)
    letters = list(string.ascii_lowercase + string.digits)
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=TOKENS
    )
    return tokenizer, len(vocabulary)


def tiny_vae(**more: Any) -> Any:
    """diffusers' AutoencoderKL, four pixels to a latent."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=32,
        **more,
    )


def text_config(num_tokens: int, **more: Any) -> Any:
    """The configuration of a CLIP text encoder."""
    from transformers import CLIPTextConfig

    sizes = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    return CLIPTextConfig(
        vocab_size=num_tokens,
        max_position_embeddings=TOKENS,
        bos_token_id=num_tokens - 2,
        eos_token_id=num_tokens - 1,
        **(sizes | more),
    )


def write_stable_diffusion_xl(folder: Path, seed: int) -> None:
    """Stable Diffusion XL: two text encoders, and a UNet that is told sizes."""
    import torch
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(seed)
    tokenizer, num_tokens = write_letter_tokenizer(folder / "tokenizer")
    tokenizer_2, _ = write_letter_tokenizer(folder / "tokenizer_2")
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16 + 24,
        attention_head_dim=(1, 2),
        norm_num_groups=4,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 12,
    )
    second = text_config(num_tokens, hidden_size=24, num_hidden_layers=2, projection_dim=12)
    StableDiffusionXLPipeline(
        vae=tiny_vae(scaling_factor=0.13025, force_upcast=True),
        text_encoder=CLIPTextModel(text_config(num_tokens, num_hidden_layers=2)),
        text_encoder_2=CLIPTextModelWithProjection(second),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer_2,
        unet=unet,
        scheduler=EulerDiscreteScheduler(
            beta_schedule="scaled_linear",
            beta_start=0.00085,
            beta_end=0.012,
            steps_offset=1,
        ),
    ).save_pretrained(folder, safe_serialization=True)


def write_z_image(folder: Path, seed: int) -> None:
    """Z-Image: a transformer, and a language model that reads bytes."""
    import torch
    from diffusers import (
        FlowMatchEulerDiscreteScheduler,
        ZImagePipeline,
        ZImageTransformer2DModel,
    )
    from transformers import Qwen3Config, Qwen3Model

    torch.manual_seed(seed)
    tokenizer = _byte_tokenizer()
    text = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
    )
    transformer = ZImageTransformer2DModel(
        in_channels=4,
        dim=32,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=16,
        axes_dims=[4, 6, 6],
        axes_lens=[544, 32, 32],
    )
    ZImagePipeline(
        vae=tiny_vae(scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=Qwen3Model(text),
        tokenizer=tokenizer,
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    ).save_pretrained(folder, safe_serialization=True)


def _byte_tokenizer() -> Any:
    """Qwen's tokenizer with a token for each byte."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import Qwen2Tokenizer

    vocabulary = {letter: number for number, letter in enumerate(sorted(ByteLevel.alphabet()))}
    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = Qwen2Tokenizer(vocab=vocabulary, merges=[], extra_special_tokens=marks[1:])
    tokenizer.chat_template = (
        "{% for one in messages %}<|im_start|>{{ one.role }}\n{{ one.content }}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    return tokenizer
