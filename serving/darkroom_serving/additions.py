"""Loads models: a whole one, or an adapter or token embeddings on their base, by diffusers' own loaders."""

from pathlib import Path
from typing import Any

import torch

from darkroom_api.artifact import LEARNED_EMBEDDINGS, LORA_WEIGHTS
from darkroom_serving.flow_models import PIPELINE, ChatReader, load_flow_model
from darkroom_serving.loading import LoadedModel, load_model
from darkroom_serving.models import ServedModel
from darkroom_serving.prompts import ClipReader


def load_served(model: ServedModel, device: torch.device) -> LoadedModel:
    """Loads a verified model; raises OSError or ValueError when its files are no usable model."""
    if model.base is None:
        return load_whole(model.folder, device)
    loaded = load_whole(model.base.folder, device)
    _add(loaded, model.folder)
    return loaded


def load_whole(folder: Path, device: torch.device) -> LoadedModel:
    """Loads a model that draws by itself, by the pipeline that it names; errors as `load_served`."""
    from diffusers import DiffusionPipeline

    index = DiffusionPipeline.load_config(folder, local_files_only=True)
    if index["_class_name"] == PIPELINE:
        return load_flow_model(folder, device)
    return load_model(folder, device)


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

    config, prompts = loaded.scheduler_config, loaded.prompts
    if isinstance(prompts, ChatReader):
        return diffusers.ZImagePipeline(
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler.from_config(config),
            vae=loaded.vae,
            text_encoder=prompts.encoder,
            tokenizer=prompts.tokenizer,
            transformer=loaded.denoiser,
        )
    assert isinstance(prompts, ClipReader)
    parts = {"unet": loaded.denoiser, "vae": loaded.vae}
    parts |= {"scheduler": diffusers.DDIMScheduler.from_config(config)}
    parts |= {"tokenizer": prompts.tokenizers[0], "text_encoder": prompts.encoders[0]}
    if len(prompts.encoders) == 1:
        return diffusers.StableDiffusionPipeline(
            **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
        )
    parts |= {"tokenizer_2": prompts.tokenizers[1], "text_encoder_2": prompts.encoders[1]}
    return diffusers.StableDiffusionXLPipeline(**parts)
