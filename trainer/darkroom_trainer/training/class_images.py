"""The class prior: images of the class as the base model itself draws them (DreamBooth, section 3.2).

They are made once, by all workers without duplicates, and kept as latents: never decoded.
"""

from collections.abc import Callable, Sequence

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from darkroom_sampling.protocols import Conditions, rows_of
from darkroom_sampling.trajectory import Guidance, begin, draw
from darkroom_trainer.families.protocols import LoadedBase
from darkroom_trainer.inputs.class_image_store import ClassImageStore, PriorRecipe, num_shards
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


def draw_class_latents(base: LoadedBase, recipe: PriorRecipe, shard: int) -> Tensor:
    """Latents of one shard, (8, C, H, W)."""
    images = range(shard * recipe.shard_images, (shard + 1) * recipe.shard_images)
    shape = base.latent_shape(recipe.resolution, recipe.resolution)
    states = base.states(["", recipe.prompt])
    unprompted, prompted = (rows_of(states, [row] * len(images)) for row in range(2))

    def predict(latents: Tensor, timesteps: Tensor, conditions: Conditions) -> Tensor:
        return base.predict(latents, timesteps, conditions).float()

    with autocast(base.device, recipe.precision):
        return draw(
            predict,
            begin(
                base,
                normal(recipe.seed, Stream.CLASS_IMAGE, 0, images, shape),
                prompted,
                Guidance(unprompted, recipe.guidance_scale),
                steps=recipe.sampling_steps,
            ),
        )


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Sampling in half precision where the recipe says so (only on GPUs)."""
    dtype = torch.float16 if precision == "FP16" else torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=precision != "FP32")
