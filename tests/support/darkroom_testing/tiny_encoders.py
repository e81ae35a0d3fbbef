"""Encoders for evaluations at the smallest size, in transformers' layout, with random weights."""

from pathlib import Path

from darkroom_testing.tiny_families import write_letter_tokenizer
from darkroom_testing.tiny_models import LAYERS, SIDE

_CROP = {"height": SIDE, "width": SIDE}


def write_dino(folder: Path, version: int = 2) -> Path:
    """A Dinov2Model, or for version 1 a ViTModel as DINO's first version is published."""
    import torch
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model, ViTConfig, ViTModel

    torch.manual_seed(0)
    if version == 1:
        ViTModel(ViTConfig(**LAYERS), add_pooling_layer=False).save_pretrained(folder)
    else:
        layers = {name: size for name, size in LAYERS.items() if name != "intermediate_size"}
        Dinov2Model(Dinov2Config(**layers)).save_pretrained(folder)
    BitImageProcessor(size={"shortest_edge": SIDE}, crop_size=_CROP).save_pretrained(folder)
    return folder


def write_clip(folder: Path) -> Path:
    """A CLIPModel that knows single letters."""
    import torch
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    tokenizer, num_tokens = write_letter_tokenizer(folder / "tokenizer")
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    layers = {name: LAYERS[name] for name in ("hidden_size", "intermediate_size")}
    layers |= {"num_hidden_layers": 1, "num_attention_heads": 2}
    text = {"vocab_size": num_tokens, "max_position_embeddings": 16, **layers}
    text |= {"bos_token_id": num_tokens - 2, "eos_token_id": num_tokens - 1}
    config = CLIPConfig(text_config=text, vision_config=LAYERS, projection_dim=12)
    CLIPModel(config).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=_CROP).save_pretrained(folder)
    return folder
