"""Z-Image in diffusers' layout (arXiv 2511.22699)."""

from collections.abc import Mapping
from typing import Any, Final

from darkroom_sampling.limits import Z_IMAGE_TOKENS
from darkroom_trainer.families.errors import UnusableBaseError
from darkroom_trainer.families.layout import FamilyLayout, ReadConfig, Sizes
from darkroom_trainer.families.unet_configs import latent_side

ACTIVATION_TENSORS: Final = 17
"""Numbers kept of a token and layer, in tensors of the width (arXiv 2205.05198, equation 1: 34 bytes)."""

_OTHER_LEVELS: Final = (
    "use_dynamic_shifting",
    "shift_terminal",
    "use_karras_sigmas",
    "use_exponential_sigmas",
    "use_beta_sigmas",
    "invert_sigmas",
    "stochastic_sampling",
)
"""Fields of a scheduler that make its noise levels others than a shift does."""


def read_sizes(read: ReadConfig) -> Sizes:
    """As `FamilyLayout.read_sizes`."""
    network, vae = read("transformer/config.json"), read("vae/config.json")
    _refuse_other_levels(read("scheduler/scheduler_config.json"))
    _refuse_other_inputs(network, vae, read("text_encoder/config.json"))
    try:
        scale = 2 ** (len(vae["block_out_channels"]) - 1)
        (patch,) = network.get("all_patch_size", (2,))
        layers = int(network["n_layers"]) + 2 * int(network["n_refiner_layers"])
        return Sizes(
            vae_scale_factor=scale,
            side_step=scale * int(patch),
            latent_channels=int(vae["latent_channels"]),
            sample_size=latent_side({}, vae, scale),
            activations=ACTIVATION_TENSORS * int(network["dim"]) * layers // int(patch) ** 2,
            max_tokens=Z_IMAGE_TOKENS,
        )
    except (LookupError, TypeError, ValueError) as error:
        raise UnusableBaseError(
            f"the config.json of its transformer or vae is wrong: {error!r}"
        ) from error


def _refuse_other_levels(scheduler: Mapping[str, Any]) -> None:
    for field in _OTHER_LEVELS:
        if scheduler.get(field):
            raise UnusableBaseError(
                f"the noise levels of its scheduler are not shifted by a number ({field}:"
                f" {scheduler[field]})",
                "use the scheduler_config.json that Z-Image was published with",
            )


def _refuse_other_inputs(
    network: Mapping[str, Any], vae: Mapping[str, Any], text: Mapping[str, Any]
) -> None:
    if network.get("siglip_feat_dim") is not None:
        raise UnusableBaseError(
            "its transformer is given pictures too (siglip_feat_dim)", "use a text-to-image model"
        )
    for what, takes, gives in (
        ("channels", network.get("in_channels"), vae.get("latent_channels")),
        ("numbers a token", network.get("cap_feat_dim"), text.get("hidden_size")),
    ):
        if takes != gives:
            raise UnusableBaseError(
                f"its transformer takes {takes} {what} and is given {gives}",
                "use the parts of one model",
            )


LAYOUT: Final = FamilyLayout(
    name="z_image",
    title="Z-Image",
    pipeline="ZImagePipeline",
    tag="z-image",
    denoiser="transformer",
    denoiser_title="transformer",
    encoders={"text_encoder": "tokenizer"},
    trains_text_encoders=False,
    reads_as_clip=False,
    required={
        "transformer": "ZImageTransformer2DModel",
        "vae": "AutoencoderKL",
        "text_encoder": "Qwen3Model",
        "tokenizer": "Qwen2Tokenizer",
        "scheduler": "FlowMatchEulerDiscreteScheduler",
    },
    weights={
        "transformer": "diffusion_pytorch_model",
        "vae": "diffusion_pytorch_model",
        "text_encoder": "model",
    },
    scheduler="FlowMatchEulerDiscreteScheduler",
    sampler="Euler",
    read_sizes=read_sizes,
)
