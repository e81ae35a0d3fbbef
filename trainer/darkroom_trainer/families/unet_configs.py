"""What the configurations of a model with a UNet say, and what is wrong there: sizes, tokens, noise levels."""

from collections.abc import Mapping
from typing import Any, Final

from darkroom_trainer.families.errors import UnusableBaseError
from darkroom_trainer.families.layout import ReadConfig, Sizes

PREDICTION_TYPES: Final = ("epsilon", "v_prediction")
"""What a scheduler may let the UNet say; the first is diffusers' default."""

BETA_SCHEDULES: Final = ("linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "laplace")
"""What diffusers' DDPM can compute."""

CLIP_TOKENS: Final = 77
"""Longest prompt of CLIP (arXiv 2103.00020, section 2.4), where nothing says otherwise."""

DEFAULT_LATENT_SIDE: Final = 64
"""Side in latents of Stable Diffusion 1, where nothing says otherwise."""

_OTHER_INPUTS: Final = {
    5: "a depth model, which is given a depth map too",
    7: "an upscaler, which is given a small picture too",
    8: "an editing model, which is given a picture too",
    9: "an inpainting model, which is given a mask and a picture too",
}
"""UNets of four latent channels that take more, by their channels."""

_CONDITIONS: Final = (
    "class_embed_type",
    "num_class_embeds",
    "addition_embed_type",
    "encoder_hid_dim_type",
)
"""Fields of a UNet that wants more than a prompt."""


ACTIVATION_TENSORS: Final = 600
"""Activations kept for the backward pass of one image, in tensors of the size of the UNet's first
level; fits Stable Diffusion 1.5 at 512 pixels (1.5 GB an image in 16 bits) without recomputation."""


def read_unet_sizes(
    read: ReadConfig, encoders: Mapping[str, str], conditions: Mapping[str, str]
) -> Sizes:
    """Checks the configurations of a UNet, its VAE, its scheduler and its CLIP text encoders.

    `encoders` has the tokenizer of each text encoder, whose states the UNet reads side by side;
    `conditions` what the UNet may want beside them, by its fields. Raises UnusableBaseError.
    """
    unet, vae = read("unet/config.json"), read("vae/config.json")
    texts = [text_config(read, encoder) for encoder in encoders]
    tokenizers = [read(f"{tokenizer}/tokenizer_config.json") for tokenizer in encoders.values()]
    _refuse_other_noise(read("scheduler/scheduler_config.json"))
    _refuse_other_channels(unet, vae)
    _refuse_other_scale(vae)
    _refuse_other_conditions(unet, conditions)
    _refuse_other_width(unet, [text.get("hidden_size") for text in texts])
    limits = map(_token_limit, tokenizers, texts)
    return _unet_sizes(unet, vae, min(limits))


def _unet_sizes(unet: Mapping[str, Any], vae: Mapping[str, Any], max_tokens: int) -> Sizes:
    """The sizes of a UNet and its VAE; raises UnusableBaseError."""
    try:
        scale = 2 ** (len(vae["block_out_channels"]) - 1)
        return Sizes(
            vae_scale_factor=scale,
            side_step=scale,
            latent_channels=int(vae.get("latent_channels", 4)),
            sample_size=latent_side(unet, vae, scale),
            activations=ACTIVATION_TENSORS * int(unet["block_out_channels"][0]),
            max_tokens=max_tokens,
        )
    except (LookupError, TypeError, ValueError) as error:
        raise UnusableBaseError(
            f"the config.json of its unet or vae is wrong: {error!r}"
        ) from error


def text_config(read: ReadConfig, encoder: str) -> dict[str, Any]:
    """The configuration of a CLIP text encoder, also out of a whole CLIP's."""
    config = read(f"{encoder}/config.json")
    inner = config.get("text_config")
    return inner if isinstance(inner, dict) else config


def latent_side(unet: Mapping[str, Any], vae: Mapping[str, Any], scale: int) -> int:
    """Side in latents: the shorter one of an oblong; the VAE's where the UNet does not say."""
    for size, divisor in ((unet.get("sample_size"), 1), (vae.get("sample_size"), scale)):
        sides = size if isinstance(size, list | tuple) else [size]
        if size and all(isinstance(side, int) for side in sides):
            return max(1, int(min(sides)) // divisor)
        if size:
            raise ValueError(f"sample_size is {size!r}, neither a number nor two")
    return DEFAULT_LATENT_SIDE


def _token_limit(tokenizer: Mapping[str, Any], text: Mapping[str, Any]) -> int:
    """Longest prompt: the text encoder's, unless the tokenizer has a smaller one."""
    positions = int(text.get("max_position_embeddings", CLIP_TOKENS))
    limit = tokenizer.get("model_max_length")
    # Where nobody set it, transformers writes 1e30.
    known = isinstance(limit, int | float) and 2 < limit < positions
    return int(limit) if known and limit is not None else positions


def _refuse_other_noise(scheduler: Mapping[str, Any]) -> None:
    """Training needs betas and a known prediction; raises UnusableBaseError without them."""
    name = scheduler.get("_class_name", "of no class")
    predicts = scheduler.get("prediction_type", PREDICTION_TYPES[0])
    has_betas = any(key in scheduler for key in ("beta_schedule", "beta_start", "trained_betas"))
    if not has_betas or scheduler.get("use_flow_sigmas"):
        raise UnusableBaseError(
            f"its scheduler {name} has noise levels that do not come from betas"
            " (EDM, flow matching): training would teach it others",
            "use a model with a scheduler of Stable Diffusion 1 or 2, such as DDIMScheduler",
        )
    if predicts not in PREDICTION_TYPES:
        raise UnusableBaseError(
            f"its scheduler predicts {predicts}, not {' or '.join(PREDICTION_TYPES)}"
        )
    schedule = scheduler.get("beta_schedule", BETA_SCHEDULES[0])
    if scheduler.get("trained_betas") is None and schedule not in BETA_SCHEDULES:
        raise UnusableBaseError(f"the beta_schedule of its scheduler, {schedule}, is unknown")
    if scheduler.get("rescale_betas_zero_snr") and predicts == "epsilon":
        raise UnusableBaseError(
            "its scheduler has a zero terminal SNR (rescale_betas_zero_snr) and predicts epsilon:"
            " at the last noise level that says nothing about the picture",
            "set prediction_type to v_prediction, or rescale_betas_zero_snr to false, as it was trained",
        )


def _refuse_other_channels(unet: Mapping[str, Any], vae: Mapping[str, Any]) -> None:
    """A UNet that takes or gives something else than the VAE's latents; raises UnusableBaseError."""
    latents = vae.get("latent_channels", 4)
    takes, gives = unet.get("in_channels", 4), unet.get("out_channels", 4)
    if takes != latents or gives != latents:
        kind = _OTHER_INPUTS.get(takes, "a model for something else")
        raise UnusableBaseError(
            f"its unet takes {takes} channels and gives {gives}, where its vae has {latents}:"
            f" it is {kind}",
            "use the text-to-image model that it was made from",
        )


def _refuse_other_scale(vae: Mapping[str, Any]) -> None:
    """A VAE whose latents are scaled by more than one number; raises UnusableBaseError."""
    if vae.get("latents_mean") is not None or vae.get("latents_std") is not None:
        raise UnusableBaseError(
            "its vae scales every channel of its latents (latents_mean, latents_std)",
            "use a model whose VAE has a scaling_factor alone",
        )


def _refuse_other_conditions(unet: Mapping[str, Any], known: Mapping[str, str | None]) -> None:
    """A UNet that wants more than its family gives it; raises UnusableBaseError."""
    for field in _CONDITIONS:
        if unet.get(field) != known.get(field):
            raise UnusableBaseError(
                f"its unet wants other conditions than a text-to-image model ({field}: {unet.get(field)})",
                "use a plain text-to-image model",
            )


def _refuse_other_width(unet: Mapping[str, Any], widths: list[Any]) -> None:
    """A UNet that reads text states of another width than those of the text encoders together have."""
    states = unet.get("cross_attention_dim")
    if not all(isinstance(number, int) for number in (states, *widths)):
        return
    width = sum(widths)
    if states != width:
        raise UnusableBaseError(
            f"its unet reads text states of width {states} and its text encoder writes {width}",
            "use a unet and a text encoder of one model",
        )
