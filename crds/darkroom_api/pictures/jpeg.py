"""What a JPEG says of itself: whether its end marker is there, and what its decoder has to hold.

Markers and their segments are those of ITU T.81, annex B.
"""

from dataclasses import dataclass
from typing import Final

END: Final = b"\xff\xd9"
"""End of image (EOI)."""

_START_OF_SCAN: Final = 0xDA
_START_OF_FRAME: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH: Final = frozenset({0x01, *range(0xD0, 0xD9)})


@dataclass(frozen=True)
class JpegStructure:
    """What the segments before the first scan say."""

    is_progressive: bool
    """Whether its scans refine one another."""

    coefficient_bytes: int
    """What the decoder holds of the whole picture before it has a first row: 2 bytes a sample where a
    picture comes in several scans, else 0."""

    ends: bool
    """Whether there is an end marker behind the first scan."""


def jpeg_structure(content: bytes) -> JpegStructure | None:
    """Walks the segments up to the first scan; None where they lead nowhere."""
    frame, position = None, 2
    while position + 4 <= len(content) and content[position] == 0xFF:
        marker = content[position + 1]
        if marker == 0xFF or marker in _WITHOUT_LENGTH:  # fill bytes, and markers that stand alone
            position += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(content[position + 2 : position + 4])
        segment = content[position + 4 : position + 2 + length]
        if marker in _START_OF_FRAME:
            frame = marker, segment
        if marker == _START_OF_SCAN and segment and frame is not None and len(frame[1]) >= 6:
            return _structure(*frame, segment[0], content.find(END, position) >= 0)
        position += 2 + length
    return None


def _structure(marker: int, frame: bytes, num_in_scan: int, ends: bool) -> JpegStructure:
    is_progressive = marker & 0x03 == 0x02
    num_components = frame[5]
    height, width = int.from_bytes(frame[1:3]), int.from_bytes(frame[3:5])
    factors = [(byte >> 4, byte & 15) for byte in frame[7 : 6 + 3 * num_components : 3]]
    most = max((h for h, _ in factors), default=1), max((v for _, v in factors), default=1)
    # Components of lower resolution have a share of the samples, as Cb and Cr in 4:2:0 a quarter each.
    share = sum(h * v for h, v in factors) / max(1, most[0] * most[1])
    whole = is_progressive or num_in_scan < num_components
    return JpegStructure(is_progressive, int(2 * width * height * share) if whole else 0, ends)
