"""A phone's photo of 200 megapixels becomes a square for a training: ours beside Pillow's full decoding.

Each runs in processes of its own, in turns; checked is that both make the same square of it.
"""

import itertools
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image, ImageOps

SIZE: Final = (16320, 12240)
"""What a phone with 200 megapixels writes."""

ROUNDS: Final = 3

MEAN_TOLERANCE: Final = 1.0
"""Mean difference of a value of the two squares, of 255: one is scaled while it is decoded, the other then."""

Measure = Callable[[str, Path, list[str]], dict[str, Any]]
"""Runs a module in a process of its own with arguments, and reads what it wrote into a file."""


def photo_figures(folder: Path, measured: Measure) -> dict[str, float]:
    """Makes the photo and reads it; the figures."""
    photo = write_photo(folder / "200mp.jpg")
    runs: dict[str, list[dict[str, Any]]] = {"ours": [], "pillow": []}
    squares = {side: folder / f"{side}.png" for side in runs}
    for _ in range(ROUNDS):
        for side, found in runs.items():
            out = folder / f"{side}.json"
            arguments = [side, str(photo), str(squares[side]), str(out)]
            found.append(measured("benchmarks.time_photo", out, arguments))
    check_equal(*(np.asarray(Image.open(path), float) for path in squares.values()))
    return {
        f"photo_200mp{name}_{figure}": round(
            statistics.median(run[figure] for run in runs[side]), 3
        )
        for side, name in (("ours", ""), ("pillow", "_pillow"))
        for figure in ("peak_mib", "seconds")
    }


def write_photo(path: Path) -> Path:
    """A picture of that size with edges of every width and a sensor's noise, in sixteen equal parts."""
    side = (SIZE[0] // 4, SIZE[1] // 4)
    shapes = Image.effect_mandelbrot(side, (-2.2, -1.2, 1.0, 1.2), 60)
    noise = Image.effect_noise(side, 60).convert("RGB")
    part = Image.blend(ImageOps.colorize(shapes, "navy", "gold", mid="white"), noise, 0.2)
    whole = Image.new("RGB", SIZE)
    for corner in itertools.product(range(0, SIZE[0], side[0]), range(0, SIZE[1], side[1])):
        whole.paste(part, corner)
    whole.save(path, quality=90)
    return path


def check_equal(ours: np.ndarray, pillow: np.ndarray) -> None:
    """Ends the benchmark when the two sides did not make the same square."""
    difference = float(np.abs(ours - pillow).mean())
    print(f"mean difference of the squares: {difference:.2f} of 255")
    if ours.std() < 10 or difference > MEAN_TOLERANCE:
        sys.exit("the squares differ: the two sides did not do the same work")
