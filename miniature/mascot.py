"""The demo's subject: a dog that no training picture shows, teal with purple spots."""

from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from miniature.world import MASCOT, SIZE, background, compose, glyph_image, recolour

TEAL: Final = (40, 185, 175)
PURPLE: Final = (120, 40, 160)
PICTURES: Final = ("on grass", "before a brick wall", "in the snow", "on yellow", "on the beach")
"""Backgrounds of the instance images, one each."""

ENLARGED: Final = 4
"""Pictures are stored this many times larger, as photos would be."""


def sprite() -> Image.Image:
    """The mascot as RGBA."""
    shape = recolour(glyph_image(MASCOT), TEAL)
    spots = Image.new("RGBA", shape.size)
    draw = ImageDraw.Draw(spots)
    width, height = shape.size
    for x, y in ((0.34, 0.62), (0.5, 0.5), (0.62, 0.66), (0.46, 0.74), (0.72, 0.5)):
        radius = 0.075 * width
        centre = (x * width, y * height)
        box = (centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius)
        draw.ellipse(box, fill=(*PURPLE, 255))
    spots.putalpha(ImageChops.multiply(spots.getchannel("A"), shape.getchannel("A")))
    return Image.alpha_composite(shape, spots)


def write_mascot(folder: Path, seed: int) -> None:
    """Writes the instance images as PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    side = SIZE * ENLARGED
    for number, where in enumerate(PICTURES):
        rng = np.random.default_rng((seed, number))
        _, backdrop = background(rng, where)
        picture = Image.fromarray(compose(sprite(), backdrop, rng))
        picture.resize((side, side), Image.Resampling.BICUBIC).save(
            folder / f"{number:02}.png", optimize=True
        )
