"""The base models of the GPU benchmark have the published sizes."""

import pytest
import torch
from benchmarks.trainer import shapes
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

# Parameters of the models on the Hub, in millions; of text encoders without the tokens' embeddings, for
# which the benchmark has another vocabulary.
PUBLISHED = {
    "Stable Diffusion 1.5's UNet": (lambda: UNet2DConditionModel(**shapes.SD15_UNET), 859.5),
    "Stable Diffusion XL's UNet": (lambda: UNet2DConditionModel(**shapes.SDXL_UNET), 2567.5),
    "the VAE": (lambda: AutoencoderKL(**shapes.SD_VAE), 83.7),
    "CLIP ViT-L's text encoder": (lambda: CLIPTextModel(CLIPTextConfig(**shapes.CLIP_L)), 85.1),
    "OpenCLIP bigG's text encoder": (
        lambda: CLIPTextModel(CLIPTextConfig(**shapes.CLIP_BIGG)),
        629.8,
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_shape_has_as_many_parameters_as_the_published_model(name):
    make, millions = PUBLISHED[name]
    with torch.device("meta"):
        model = make()
    counted = sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        if "token_embedding" not in name
    )
    assert counted / 1e6 == pytest.approx(millions, abs=0.1)
