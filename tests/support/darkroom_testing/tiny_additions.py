"""What goes on the tiny base model of the tests: an adapter, and embeddings of a new token."""

from pathlib import Path

EMBEDDING_WIDTH = 16
"""Of the base's text encoder."""


def write_adapter(base: Path, folder: Path) -> None:
    """An adapter of UNet and text encoder with a scale of its own, as diffusers writes it."""
    import torch
    from diffusers import StableDiffusionPipeline
    from diffusers.training_utils import _collate_lora_metadata
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    pipeline = StableDiffusionPipeline.from_pretrained(base, use_safetensors=True)
    layers = {}
    for part, targets in (("unet", ["to_q", "to_v"]), ("text_encoder", ["q_proj", "v_proj"])):
        model = getattr(pipeline, part)
        torch.manual_seed(1)
        model.add_adapter(
            LoraConfig(r=2, lora_alpha=6, target_modules=targets, init_lora_weights=False)
        )
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
