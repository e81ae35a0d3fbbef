"""Loads models: a whole one, or an adapter or token embeddings on their base, by diffusers' own loaders."""

from pathlib import Path
from typing import Any, Final

import torch

from darkroom_api.artifact import LEARNED_EMBEDDINGS, LORA_WEIGHTS
from darkroom_sampling.samplers import build_scheduler
from darkroom_serving.models.catalogue import ServedModel
from darkroom_serving.models.loading import LoadedModel, load_model

_LEFT_OUT: Final = {
    "StableDiffusionPipeline": {
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }
}
"""What a pipeline wants to be told of what isn't there."""


def load_served(model: ServedModel, device: torch.device) -> LoadedModel:
    """Loads a verified model; raises OSError or ValueError when its files are no usable model."""
    if model.base is None:
        return load_model(model.folder, device)
    loaded = load_model(model.base.folder, device)
    _add(loaded, model.folder)
    return loaded


def _add(loaded: LoadedModel, folder: Path) -> None:
    """Puts what a folder holds onto a base in memory: the pipeline's loaders change its parts in place."""
    pipeline = _pipeline(loaded)
    options = {"local_files_only": True, "use_safetensors": True}
    if (folder / LEARNED_EMBEDDINGS).exists():
        pipeline.load_textual_inversion(folder, weight_name=LEARNED_EMBEDDINGS, **options)
    if (folder / LORA_WEIGHTS).exists():
        pipeline.load_lora_weights(folder, weight_name=LORA_WEIGHTS, **options)


def _pipeline(loaded: LoadedModel) -> Any:
    """Diffusers' pipeline around a model in memory."""
    import diffusers

    model = loaded.model
    sampler = next(iter(model.samplers.values()))
    parts = {
        "vae": model.codec.vae,
        model.denoiser.component: model.denoiser.network,
        "scheduler": build_scheduler(sampler, model.scheduler_config),
        **model.conditioning.encoders,
        # Diffusers numbers them alike: text_encoder_2 has tokenizer_2.
        **{
            name.replace("text_encoder", "tokenizer"): tokenizer
            for name, tokenizer in model.conditioning.tokenizers.items()
        },
    }
    return getattr(diffusers, loaded.pipeline)(**parts, **_LEFT_OUT.get(loaded.pipeline, {}))
