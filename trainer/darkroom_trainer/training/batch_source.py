"""Turns the inputs of a job into what batches are drawn from: latents, prompts, a teacher."""

import torch

from darkroom_api.job import PersonalizationJobSpec, PriorMode
from darkroom_api.training import Method, Training
from darkroom_trainer.families.protocols import LoadedBase
from darkroom_trainer.inputs.photos import PhotoSet, by_crop, crop_of, photo_prompts
from darkroom_trainer.training import engine
from darkroom_trainer.training.batches import BatchSource, Bucket, Prompts
from darkroom_trainer.training.class_images import read_class_latents
from darkroom_trainer.training.latents import encode_moments
from darkroom_trainer.training.teacher import Teacher, frozen_teacher
from darkroom_trainer.worker_task import WorkerTask


def batch_source(task: WorkerTask, base: LoadedBase, photos: PhotoSet) -> BatchSource:
    """The photos and class images of a job as latents, its prompts, and its teacher where it has one."""
    spec, store = task.job.spec, task.class_images
    class_latents = None
    if store is not None:
        class_latents = read_class_latents(store, spec.prior_preservation.num_images)
        class_latents = class_latents.to(base.device)
    return BatchSource(
        seed=spec.training.seed,
        global_batch_size=spec.global_batch_size,
        buckets=_buckets(base, spec.training, photos),
        prompts=prompts_of(base, spec, photos),
        class_latents=class_latents,
        teacher=_teacher(base, spec),
        objective=base.objective,
        snr_gamma=None if spec.training.snr_gamma is None else float(spec.training.snr_gamma),
        noise_offset=float(spec.training.noise_offset),
    )


def _buckets(base: LoadedBase, training: Training, photos: PhotoSet) -> list[Bucket]:
    """The photos by the size that they are cropped to."""
    found = []
    for places in by_crop(photos).values():
        members = [photos.photos[place] for place in places]
        moments = encode_moments(
            base.codec,
            torch.stack([torch.from_numpy(photo.pixels) for photo in members]),
            horizontal_flip=training.horizontal_flip,
            device=base.device,
        )
        draws = [at for at, photo in enumerate(members) for _ in range(photo.repeats)]
        crops = None
        if training.aspect_ratio_buckets:
            crops = torch.tensor([crop_of(photo) for photo in members], dtype=torch.float32)
            crops = crops.to(base.device)
        found.append(Bucket(places, moments, draws, crops))
    return found


def _teacher(base: LoadedBase, spec: PersonalizationJobSpec) -> Teacher | None:
    if spec.prior_preservation.mode is not PriorMode.FROZEN_TEACHER:
        return None
    return frozen_teacher(
        base,
        spec.subject.class_prompt,
        engine.DTYPES[spec.scale.precision],
        stays_frozen=spec.training.method is not Method.FULL,
    )


def prompts_of(base: LoadedBase, spec: PersonalizationJobSpec, photos: PhotoSet) -> Prompts:
    """Those of the photos and of the class: tokens, or the frozen text encoders' states."""
    of_photos = photo_prompts(photos, spec.subject)
    distinct = list(dict.fromkeys([*of_photos, spec.subject.class_prompt]))
    values = base.prompts(
        distinct,
        engine.DTYPES[spec.scale.precision],
        train_text_encoder=spec.training.encodes_prompts,
    )
    rows = [distinct.index(prompt) for prompt in of_photos]
    return Prompts(values, rows, distinct.index(spec.subject.class_prompt))
