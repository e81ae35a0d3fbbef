"""What several parts test with: a model of the real architecture at the smallest size."""

import importlib.util
import json
import string
from pathlib import Path

import pytest

pytest_plugins = (
    "pytester",
    "darkroom_testing.cluster.fixtures",
    "darkroom_testing.command",
    "darkroom_testing.costs",
    "darkroom_testing.in_memory.virtual_time",
    "darkroom_testing.rotation",
)


@pytest.fixture(scope="session")
def load_script():
    """Loads a script that is in no package as a module: `load_script("hack/render_map.py")`."""

    def load(name):
        path = Path(__file__).parents[1] / name
        spec = importlib.util.spec_from_file_location(f"script_{path.stem}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def _write_tokenizer(folder):
    """A CLIP tokenizer that knows single letters: enough to tell prompts apart."""
    from transformers import CLIPTokenizer

    folder.mkdir(parents=True)
    letters = list(string.ascii_lowercase + string.digits)
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=24
    )
    return tokenizer, len(vocabulary)


def _write_base(folder, seed):
    import torch
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(seed)
    tokenizer, num_tokens = _write_tokenizer(folder / "tokenizer")
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=8,
        norm_num_groups=4,
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=32,
    )
    text_config = CLIPTextConfig(
        vocab_size=num_tokens,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=24,
        bos_token_id=num_tokens - 2,
        eos_token_id=num_tokens - 1,
    )
    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(text_config),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder, safe_serialization=True)


@pytest.fixture(scope="session")
def write_base():
    """Writes a random-init base model, pictures of 32 x 32, latents of 8 x 8: `write_base(folder, seed)`."""
    return _write_base
