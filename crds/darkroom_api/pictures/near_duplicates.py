"""Which photos show the same picture: copies, and copies of another size, format or JPEG quality.

Perceptual hashes of one bit a cell (dHash, pHash) take even pictures of different colours for one, and
lose what is small before an even background. This one keeps the cells' colours, and compares them.
"""

from collections.abc import Iterable
from typing import Final, NewType

from PIL import Image

Signature = NewType("Signature", bytes)
"""Mean colours of the cells of a picture."""

CELLS: Final = 16
"""Cells along a side: a subject of a twentieth of the picture still fills one."""

MAX_DIFFERENCE: Final = 24
"""Most by which a cell of a copy differs, of 255. For photographs of the DreamBooth data set: JPEG quality
10 makes 11 of it, a tenth of the size 24; the most alike of 27 different ones differ by 96."""

MIN_DIFFERENCE: Final = 4
"""The same for pictures that are even, as a texture or a wall is: two of those differ by little, too."""

CONTRAST_SHARE: Final = 4
"""A cell of a copy differs by less than such a part of the contrast between the cells."""


def signature(image: Image.Image) -> Signature:
    """Of an RGB picture."""
    return Signature(image.resize((CELLS, CELLS), Image.Resampling.BOX).tobytes())


def same_picture(one: Signature, other: Signature) -> bool:
    """Whether two signatures are of copies of one picture."""
    contrast = max(one) - min(one)
    limit = min(MAX_DIFFERENCE, max(MIN_DIFFERENCE, contrast // CONTRAST_SHARE))
    return all(abs(a - b) <= limit for a, b in zip(one, other, strict=True))


def first_like(found: Signature, seen: Iterable[tuple[str, Signature]]) -> str | None:
    """Name of the first of the pictures seen before that is the same one."""
    return next((name for name, before in seen if same_picture(found, before)), None)
