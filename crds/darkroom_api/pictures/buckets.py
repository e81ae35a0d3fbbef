"""Aspect-ratio buckets: the sizes that photos are cropped to, and which of them takes least of a photo. Pure."""

from collections.abc import Sequence
from typing import Final

from darkroom_api.training import Training

Size = tuple[int, int]
"""Width and height in pixels."""

STEP: Final = 64
"""Pixels between the sides of buckets, as everywhere: UNets halve latents three times."""

STEPS_A_SIDE: Final = 8
"""Where pictures are small, the steps are so many of a side."""

LONGEST: Final = 2
"""A side has at most so many times the resolution, and at least the part of it: 4 to 1 is the longest bucket."""


def bucket_sizes(resolution: int, side_step: int) -> tuple[Size, ...]:
    """The square of `resolution` pixels, and longer ones that have no more pixels, by their width.

    Sides other than the square's are multiples of a step, which is one of `side_step`.
    """
    step = max(side_step, min(STEP, resolution // STEPS_A_SIDE) // side_step * side_step)
    shortest, longest = -(-resolution // LONGEST), resolution * LONGEST
    sizes = {(resolution, resolution)}
    for side in range(-(-shortest // step) * step, longest + 1, step):
        other = min(longest, resolution**2 // side) // step * step
        if other >= shortest and other != side:
            sizes |= {(side, other), (other, side)}
    return tuple(sorted(sizes))


def photo_buckets(training: Training, side_step: int) -> tuple[Size, ...]:
    """What a job's photos may be cropped to; none where all are cropped to squares.

    `side_step` is that of the base model.
    """
    return bucket_sizes(training.resolution, side_step) if training.aspect_ratio_buckets else ()


def nearest_bucket(photo: Size, buckets: Sequence[Size]) -> Size:
    """The bucket that keeps most of a photo; of those that keep as much the largest, and the widest."""
    return max(buckets, key=lambda size: (kept_share(photo, size), size[0] * size[1], size[0]))


def kept_share(photo: Size, bucket: Size) -> float:
    """How much of a photo is left when it fills a bucket, from 0 to 1: the aspect ratios by one another."""
    across, along = photo[0] * bucket[1], photo[1] * bucket[0]
    return min(across, along) / max(across, along)


def fill_scale(photo: Size, bucket: Size) -> float:
    """By how much a photo is scaled to fill a bucket; more than 1 is up."""
    return max(bucket[0] / photo[0], bucket[1] / photo[1])


def crop_corner(photo: Size, bucket: Size) -> tuple[int, int]:
    """Pixels of the scaled photo at the left and on top of its middle, which fills the bucket."""
    scale = fill_scale(photo, bucket)
    left, top = (round((side * scale - kept) / 2) for side, kept in zip(photo, bucket, strict=True))
    return left, top
