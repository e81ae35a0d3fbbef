"""What several parts test with: a model of the real architecture at the smallest size."""

import importlib.util
from pathlib import Path

import pytest

from darkroom_testing.tiny_families import text_config, tiny_vae, write_letter_tokenizer

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


def _write_base(folder, seed):
    import torch
    from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel

    torch.manual_seed(seed)
    tokenizer, num_tokens = write_letter_tokenizer(folder / "tokenizer")
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
    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    StableDiffusionPipeline(
        vae=tiny_vae(),
        text_encoder=CLIPTextModel(text_config(num_tokens)),
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


@pytest.fixture
def classes_built_here(monkeypatch):
    """Torch is in this process already: a base's classes need no process of their own."""
    from darkroom_trainer.driver import base_check
    from darkroom_trainer.training.class_shapes import class_shapes, scheduler_problem

    def build(base):
        scheduler = scheduler_problem(base.folder, base.classes["scheduler"])
        return class_shapes(base.folder) | {"scheduler": scheduler}

    monkeypatch.setattr(base_check, "_class_shapes", build)
