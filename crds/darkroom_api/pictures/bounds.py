"""Bounds of pictures and of folders of photos, and what says that a picture is outside of them."""

from typing import Final

MAX_FILE_BYTES: Final = 100 << 20
"""Largest file that is read: a phone's JPEG of 200 megapixels has 30 to 80 MB."""

MAX_MEGAPIXELS: Final = {
    "JPEG": 1000,
    "PNG": 40,
    "WEBP": 25,
    "HEIF": 50,
    "AVIF": 30,
    "TIFF": 40,
    "BMP": 40,
    "GIF": 40,
}
"""Most pixels that are decoded, by Pillow's name of the format. JPEG is scaled while it is decoded;
of the others as many as fit into 512 MiB by what their decoders take: 4 bytes a pixel in Pillow, 7
to 9 in those for HEIC and AVIF (10 bits: more), 16 in that for WEBP."""

MAX_JPEG_BYTES: Final = 400_000_000
"""Most memory of a JPEG's pixels after scaling, 8 bytes each (twice 4, while it is turned upright),
and coefficients."""

MAX_COEFFICIENT_BYTES: Final = 300_000_000
"""Most memory of a progressive JPEG's coefficients, which its decoder holds for the whole picture."""

MAX_PROFILE_BYTES: Final = 4 << 20
"""Largest colour profile; those of printers have up to two or three MB."""

MAX_TEXT_BYTES: Final = 64 << 20
"""Most text of a PNG, unpacked: a workflow of ComfyUI has a few MB, a text bomb gigabytes."""

MIN_PHOTOS: Final = 3
"""Fewest good photos of a subject; the paper uses 3 to 5 (DreamBooth, section 4)."""

MIN_PHOTO_SIDE: Final = 32
"""Shortest side of a photo in pixels that shows anything to learn; also the smallest training resolution."""

MAX_PHOTO_FILES: Final = 1000
"""Most files in a folder of photos: beyond it the folder is taken for a mistake."""


class UnfitPictureError(ValueError):
    """Why a picture is not used, and what to do: "is animated; send one frame of it"."""
