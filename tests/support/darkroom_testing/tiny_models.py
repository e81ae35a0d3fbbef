"""Models of real architectures at the smallest size, with random weights; what torch needs is imported late."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
    from transformers import ViTConfig

SIDE = 32
"""Of their pictures, in pixels."""

LAYERS: dict[str, Any] = {
    "image_size": SIDE,
    "patch_size": 8,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
"""Of a vision transformer, by the names that ViT and CLIP share."""


def vit_config(**more: Any) -> "ViTConfig":
    """The configuration of an image classifier."""
    from transformers import ViTConfig

    return ViTConfig(**LAYERS, **more)


def safety_checker(threshold: float) -> "StableDiffusionSafetyChecker":
    """One that flags every picture that is more alike to a concept than the threshold."""
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
    from transformers import CLIPConfig

    vision = LAYERS | {"projection_dim": 16}
    checker = StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision, projection_dim=16))
    checker.concept_embeds_weights.data.fill_(threshold)
    return checker
