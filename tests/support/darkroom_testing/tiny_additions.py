"""What goes on the tiny base model of the tests: an adapter, and embeddings of a new token."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

EMBEDDING_WIDTH = 16
"""Of the base's text encoder."""

TARGETS: Final = {"unet": ("to_q", "to_v"), "text_encoder": ("q_proj", "v_proj")}
"""How the names end of the layers that an adapter changes, by component."""


def write_adapter(
    base: Path,
    folder: Path,
    *,
    seed: int = 1,
    targets: Mapping[str, Sequence[str]] = TARGETS,
    **config: Any,
) -> None:
    """An adapter of UNet and text encoder with a scale of its own, as diffusers writes it.

    `config` is of peft's LoraConfig: of rank 2 with an alpha of 6, unless it says otherwise.
    """
    import torch
    from diffusers import StableDiffusionPipeline
    from diffusers.training_utils import _collate_lora_metadata
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    pipeline = StableDiffusionPipeline.from_pretrained(base, use_safetensors=True)
    layers = {}
    options = {"r": 2, "lora_alpha": 6, "init_lora_weights": False} | config
    for part, ends in targets.items():
        model = getattr(pipeline, part)
        torch.manual_seed(seed)
        model.add_adapter(LoraConfig(target_modules=list(ends), **options))
        layers[part] = convert_state_dict_to_diffusers(get_peft_model_state_dict(model))
    metadata = _collate_lora_metadata({name: getattr(pipeline, name) for name in layers})
    StableDiffusionPipeline.save_lora_weights(
        folder, **{f"{name}_lora_layers": own for name, own in layers.items()}, **metadata
    )


def write_embeddings(folder: Path, token: str, vectors: int) -> None:
    """Embeddings of one word, as diffusers reads them."""
    import torch
    from safetensors.torch import save_file

    from darkroom_api.artifact import LEARNED_EMBEDDINGS

    generator = torch.Generator().manual_seed(2)
    values = torch.randn(vectors, EMBEDDING_WIDTH, generator=generator)
    save_file({token: values}, folder / LEARNED_EMBEDDINGS)
