"""The class prior: images of the class as the base model itself draws them (DreamBooth, section 3.2).

They are made once, by all workers without duplicates, and kept as latents: never decoded.
"""

from collections.abc import Callable, Sequence

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from darkroom_trainer.families.protocols import LoadedBase, rows_of
from darkroom_trainer.inputs.class_image_store import ClassImageStore, PriorRecipe, num_shards
from darkroom_trainer.training.sampling import draw_latents
from darkroom_trainer.training.streams import Stream, normal


def make_class_images(
    store: ClassImageStore,
    base: LoadedBase,
    shards: Sequence[int],
    should_stop: Callable[[], bool],
    on_shard: Callable[[], None],
) -> None:
    """Makes those of the shards that aren't there yet; returns early when told to stop.

    What another job is making right now is left to it: the rest comes first, then its result is
    awaited, and made here after all if that job dies.
    """
    for wait in (False, True):
        for index in shards:
            if should_stop():
                return
            with store.claim(index, wait=wait) as held:
                if held and not store.has(index):
                    latents = draw_class_latents(base, store.recipe, index)
                    store.add(index, save_tensors({"latents": latents.to("cpu", torch.float16)}))
            on_shard()


def read_class_latents(store: ClassImageStore, num_images: int) -> Tensor:
    """The first `num_images` of a store, float32 (num_images, C, H, W)."""
    shards = [
        load_tensors(store.shard(index))["latents"] for index in range(num_shards(num_images))
    ]
    return torch.cat(shards)[:num_images].float()


@torch.no_grad()
def draw_class_latents(base: LoadedBase, recipe: PriorRecipe, shard: int) -> Tensor:
    """Latents of one shard, (8, C, H, W)."""
    device = base.device
    images = range(shard * recipe.shard_images, (shard + 1) * recipe.shard_images)
    shape = base.latent_shape(recipe.resolution)
    noise = normal(recipe.seed, Stream.CLASS_IMAGE, 0, images, shape).to(device)
    halves = [0] * len(images) + [1] * len(images)
    states = rows_of(base.states(["", recipe.prompt]), halves)

    def predict(latents: Tensor, timestep: Tensor) -> Tensor:
        timesteps = timestep.to(device).expand(len(latents))
        return base.denoiser.predict(base.denoiser.network, latents, timesteps, states)

    with autocast(device, recipe.precision):
        return draw_latents(
            predict,
            noise,
            scheduler=base.objective.sampler(recipe.sampling_steps),
            guidance_scale=recipe.guidance_scale,
        )


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Sampling in half precision where the recipe says so (only on GPUs)."""
    dtype = torch.float16 if precision == "FP16" else torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=precision != "FP32")
