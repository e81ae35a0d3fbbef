"""The world that the miniature knows: emoji of a few nouns over drawn backgrounds, with captions.

Every picture is a pure function of (seed, index), so nothing is stored and any process can make any part.
Pictures are made at twice the size and reduced, which smooths the edges.
"""

import colorsys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

SIZE: Final = 64
"""Side of a picture in pixels."""

FONT: Final = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
"""Debian package fonts-noto-color-emoji."""

FONT_PIXELS: Final = 109
"""The only size of the font's bitmaps."""

NOUNS: Final[dict[str, str]] = {
    "dog": "🐕🐶",
    "cat": "🐈🐱",
    "bird": "🐦🦜",
    "car": "🚗🚕",
    "flower": "🌻🌷",
    "ball": "⚽🏀",
    "hat": "🎩🧢",
    "house": "🏠🛖",
}
"""Glyphs of each noun."""

MASCOT: Final = "🦮"
"""The glyph of the subject to learn: a dog that no training picture shows."""

COLOURS: Final[dict[str, tuple[int, int, int]]] = {
    "red": (205, 55, 50),
    "blue": (70, 120, 230),
    "green": (80, 160, 80),
    "yellow": (245, 205, 70),
    "pink": (250, 175, 205),
    "grey": (145, 145, 150),
}
"""Plain backgrounds and recoloured objects."""

PLACES: Final[tuple[str, ...]] = (
    "on the beach",
    "in the snow",
    "at night",
    "on grass",
    "in the forest",
    "in the desert",
    "under water",
    "before a brick wall",
)
"""Drawn backgrounds, as they stand in captions."""

RARE_TOKENS: Final[tuple[str, ...]] = ("sks", "zwx", "ohwx", "qfg", "vbn", "xyq")
"""Identifiers without a meaning: an object that has one looks odd, each time in another colour.

Was it ordinary, the model would learn to ignore them, and DreamBooth would have nothing to hold on to.
"""

RECOLOURED: Final = 0.2
RARE: Final = 0.1


@dataclass(frozen=True)
class Scene:
    """One picture with its caption and what it shows."""

    pixels: NDArray[np.uint8]
    """Height x width x RGB."""

    caption: str
    noun: str


def scene(seed: int, index: int) -> Scene:
    """The picture of that index in the world of that seed."""
    rng = np.random.default_rng((seed, index))
    noun = str(rng.choice(list(NOUNS)))
    glyph = NOUNS[noun][int(rng.integers(len(NOUNS[noun])))]
    sprite = glyph_image(glyph)
    rare, colour = "", ""
    chance = rng.random()
    if chance < RARE:
        rare = str(rng.choice(RARE_TOKENS))
        sprite = recolour(sprite, _any_colour(rng))
    elif chance < RARE + RECOLOURED:
        colour = str(rng.choice(list(COLOURS)))
        sprite = recolour(sprite, COLOURS[colour])
    where, backdrop = background(rng)
    words = ["a photo of", "" if rare else "a", rare, colour, noun, where]
    caption = " ".join(word for word in words if word)
    return Scene(compose(sprite, backdrop, rng), caption, noun)


@lru_cache(maxsize=64)
def glyph_image(glyph: str) -> Image.Image:
    """A glyph as RGBA, cropped to what is drawn."""
    font = ImageFont.truetype(str(FONT), FONT_PIXELS)
    canvas = Image.new("RGBA", (160, 160))
    ImageDraw.Draw(canvas).text((10, 10), glyph, font=font, embedded_color=True)
    return canvas.crop(canvas.getbbox())


def recolour(sprite: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
    """The same shape in another hue: light and dark stay, hue and saturation are the colour's."""
    pixels = np.asarray(sprite, dtype=np.float32)
    light = pixels[..., :3] @ np.array([0.299, 0.587, 0.114], dtype=np.float32) / 255
    hue, _, saturation = colorsys.rgb_to_hls(*(channel / 255 for channel in colour))
    ramp = np.array(
        [colorsys.hls_to_rgb(hue, 0.12 + 0.76 * step / 255, saturation) for step in range(256)]
    )
    tinted = ramp[(light * 255).astype(np.uint8)] * 255
    return Image.fromarray(np.dstack([tinted, pixels[..., 3]]).astype(np.uint8), "RGBA")


def compose(
    sprite: Image.Image, backdrop: Image.Image, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Puts an object with its shadow onto a background of twice the final size."""
    side = int(backdrop.width * rng.uniform(0.58, 0.8))
    scale = side / max(sprite.size)
    object_ = sprite.resize(
        (round(sprite.width * scale), round(sprite.height * scale)), Image.Resampling.LANCZOS
    )
    if rng.random() < 0.5:
        object_ = object_.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    left = int((backdrop.width - object_.width) / 2 + rng.integers(-10, 11))
    top = int((backdrop.height - object_.height) * 0.6 + rng.integers(-8, 9))
    shadow = Image.new("L", backdrop.size)
    box = (left + 6, top + object_.height - 9, left + object_.width - 6, top + object_.height + 7)
    ImageDraw.Draw(shadow).ellipse(box, fill=70)
    canvas = backdrop.copy()
    canvas.paste((20, 20, 30), mask=shadow.filter(ImageFilter.GaussianBlur(3)))
    canvas.paste(object_, (left, top), object_)
    return np.asarray(canvas.resize((SIZE, SIZE), Image.Resampling.BOX))


def background(rng: np.random.Generator, where: str | None = None) -> tuple[str, Image.Image]:
    """A background and its words; a random one (drawn, plain or unnamed) unless it is given."""
    if where is None:
        kind = rng.random()
        if kind < 0.6:
            where = str(rng.choice(PLACES))
        elif kind < 0.8:
            where = f"on {rng.choice(list(COLOURS))}"
        else:
            where = ""
    if where in PLACES:
        return where, _PAINTERS[where](rng)
    name = where.removeprefix("on ")
    rgb = COLOURS[name] if name in COLOURS else tuple(int(c) for c in rng.integers(60, 250, 3))
    return where, _gradient(_vary(rgb, rng, 10), _vary(rgb, rng, 10))


def _any_colour(rng: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = colorsys.hls_to_rgb(rng.random(), 0.5, 0.7)
    return int(255 * red), int(255 * green), int(255 * blue)


def _vary(colour: tuple[int, ...], rng: np.random.Generator, amount: int) -> tuple[int, ...]:
    return tuple(int(np.clip(c + rng.integers(-amount, amount + 1), 0, 255)) for c in colour)


def _gradient(top: tuple[int, ...], bottom: tuple[int, ...]) -> Image.Image:
    side = 2 * SIZE
    ramp = np.linspace(0, 1, side)[:, None, None]
    rows = np.array(top) * (1 - ramp) + np.array(bottom) * ramp
    return Image.fromarray(np.broadcast_to(rows, (side, side, 3)).astype(np.uint8))


def _ground(image: Image.Image, horizon: float, colour: tuple[int, ...]) -> ImageDraw.ImageDraw:
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, horizon * image.height, image.width, image.height), fill=colour)
    return draw


def _beach(rng: np.random.Generator) -> Image.Image:
    image = _gradient(_vary((135, 200, 245), rng, 10), _vary((190, 225, 250), rng, 8))
    sea = rng.uniform(0.36, 0.44)
    _ground(image, sea, _vary((35, 115, 165), rng, 10))
    _ground(image, sea + rng.uniform(0.14, 0.2), _vary((235, 210, 150), rng, 8))
    return image


def _snow(rng: np.random.Generator) -> Image.Image:
    image = _gradient(_vary((165, 185, 205), rng, 8), _vary((205, 218, 230), rng, 6))
    draw = _ground(image, rng.uniform(0.5, 0.6), _vary((243, 247, 252), rng, 4))
    for x, y in rng.integers(0, image.width, (26, 2)):
        draw.ellipse((x, y, x + 3, y + 3), fill=(255, 255, 255))
    return image


def _night(rng: np.random.Generator) -> Image.Image:
    image = _gradient(_vary((8, 8, 30), rng, 5), _vary((28, 26, 62), rng, 6))
    draw = ImageDraw.Draw(image)
    for x, y in rng.integers(0, image.width, (22, 2)):
        draw.ellipse((x, y, x + 2, y + 2), fill=(235, 235, 210))
    x = int(rng.integers(70, 105))
    draw.ellipse((x, 8, x + 18, 26), fill=(245, 235, 190))
    return image


def _grass(rng: np.random.Generator) -> Image.Image:
    image = _gradient(_vary((120, 190, 250), rng, 10), _vary((195, 225, 250), rng, 8))
    draw = _ground(image, rng.uniform(0.48, 0.58), _vary((105, 175, 65), rng, 10))
    for x, y in zip(rng.integers(0, 128, 30), rng.integers(76, 128, 30), strict=True):
        draw.line((x, y, x + 1, y - 6), fill=(70, 135, 45), width=2)
    return image


def _forest(rng: np.random.Generator) -> Image.Image:
    image = _gradient(_vary((38, 75, 48), rng, 6), _vary((58, 100, 58), rng, 6))
    draw = ImageDraw.Draw(image)
    for x in np.arange(6, 128, 26) + rng.integers(-5, 6, 5):
        width = int(rng.integers(7, 12))
        draw.rectangle((x, 0, x + width, 106), fill=_vary((74, 48, 34), rng, 8))
    _ground(image, 0.8, _vary((44, 84, 38), rng, 6))
    return image


def _desert(rng: np.random.Generator) -> Image.Image:
    image = _gradient(_vary((250, 175, 95), rng, 8), _vary((253, 208, 140), rng, 6))
    draw = ImageDraw.Draw(image)
    crest = rng.integers(58, 84, 5)
    line = [(32 * i, int(y)) for i, y in enumerate(crest)]
    draw.polygon([(0, 128), *line, (128, 128)], fill=_vary((200, 115, 55), rng, 10))
    return image


def _water(rng: np.random.Generator) -> Image.Image:
    image = _gradient(_vary((55, 165, 215), rng, 8), _vary((8, 62, 125), rng, 8))
    draw = ImageDraw.Draw(image)
    for x, y in rng.integers(4, 118, (9, 2)):
        radius = int(rng.integers(2, 5))
        draw.ellipse((x, y, x + 2 * radius, y + 2 * radius), outline=(190, 230, 250), width=1)
    return image


def _bricks(rng: np.random.Generator) -> Image.Image:
    image = Image.new("RGB", (2 * SIZE, 2 * SIZE), _vary((205, 188, 178), rng, 8))
    draw = ImageDraw.Draw(image)
    base = _vary((168, 72, 58), rng, 8)
    for row, y in enumerate(range(0, 128, 16)):
        for x in range(-32 + 16 * (row % 2), 128, 32):
            draw.rectangle((x, y, x + 29, y + 13), fill=_vary(base, rng, 7))
    return image


_PAINTERS: Final = {
    "on the beach": _beach,
    "in the snow": _snow,
    "at night": _night,
    "on grass": _grass,
    "in the forest": _forest,
    "in the desert": _desert,
    "under water": _water,
    "before a brick wall": _bricks,
}
