"""One process that makes a square of a photo: `python -m benchmarks.time_photo SIDE PHOTO SQUARE OUT`.

SIDE is `ours`, which reads it as a training does, or `pillow`, which decodes it whole. The square is
written as PNG; what it took to OUT, as JSON: seconds, and the peak of memory above the idle process.
"""

import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from PIL import Image, ImageOps

from darkroom_api.pictures.decoding import decode_picture

RESOLUTION: Final = 512


def ours(content: bytes) -> Image.Image:
    """The upright picture, as `load_photos` reads it."""
    return decode_picture(content, RESOLUTION).image


def pillow(content: bytes) -> Image.Image:
    """The same as one finds it in tutorials."""
    Image.MAX_IMAGE_PIXELS = None
    return ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")


READERS: Final = {"ours": ours, "pillow": pillow}


def square(read: Callable[[bytes], Image.Image], content: bytes) -> Image.Image:
    """What is in the middle of a picture, as a training sees it."""
    return ImageOps.fit(read(content), (RESOLUTION, RESOLUTION), Image.Resampling.LANCZOS)


def memory_mib(field: str) -> float:
    """A figure of this process from the kernel: `VmRSS` is of now, `VmHWM` the largest so far."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (kib,) = (line.split()[1] for line in lines if line.startswith(f"{field}:"))
    return int(kib) / 1024


def main() -> None:
    """Reads a small picture to be warm, then the photo."""
    side, photo, target, out = sys.argv[1], *map(Path, sys.argv[2:])
    small = io.BytesIO()
    Image.new("RGB", (64, 64)).save(small, format="JPEG")
    square(READERS[side], small.getvalue())
    idle_mib, begun = memory_mib("VmRSS"), time.perf_counter()
    found = square(READERS[side], photo.read_bytes())
    seconds, peak_mib = time.perf_counter() - begun, memory_mib("VmHWM")
    found.save(target)
    out.write_text(json.dumps({"seconds": seconds, "peak_mib": peak_mib - idle_mib}))


if __name__ == "__main__":
    main()
