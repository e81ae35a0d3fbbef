"""ICC profiles for tests, written byte by byte as ICC.1:2022 says (section numbers are its own)."""

import struct
from collections.abc import Sequence

XYZ = tuple[float, float, float]

ADOBE_RGB = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
"""Red, green and blue of Adobe RGB (1998) as XYZ under D50."""

D50 = (0.9642, 1.0, 0.8249)
"""White of the profile connection space (section 7.2.16)."""


def rgb_profile(primaries: Sequence[XYZ] = ADOBE_RGB, gamma: float = 2.19921875) -> bytes:
    """A profile of three primaries and one gamma (section 8.3.3)."""
    tags = {f"{name}XYZ": _xyz(value) for name, value in zip("rgb", primaries, strict=True)}
    tags |= {f"{name}TRC": _gamma(gamma) for name in "rgb"}
    return _profile(b"mntr", b"RGB ", b"XYZ ", tags)


def grey_profile(gamma: float) -> bytes:
    """A profile of one gamma (section 8.3.4)."""
    return _profile(b"mntr", b"GRAY", b"XYZ ", {"kTRC": _gamma(gamma)})


def cmyk_profile(lab: tuple[int, int, int]) -> bytes:
    """A profile of inks, in CIELAB of 8 bits: white paper, black ink, and one colour for all others."""
    identity = bytes(range(256))
    # lut8Type (section 10.11): 4 channels in, 3 out, 2 points of the grid along each.
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0])
    table += struct.pack(">9i", *(65536 if n in (0, 4, 8) else 0 for n in range(9)))
    black = bytes([0, 128, 128])  # the last channel is the fastest
    table += identity * 4 + bytes([255, 128, 128]) + black + (bytes(lab) + black) * 7 + identity * 3
    return _profile(b"prtr", b"CMYK", b"Lab ", {"A2B0": table})


def _profile(kind: bytes, space: bytes, connection: bytes, tags: dict[str, bytes]) -> bytes:
    tags = {"wtpt": _xyz(D50), **tags}
    offset = 132 + 12 * len(tags)
    index, body = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        index += name.encode() + struct.pack(">II", offset + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    header = struct.pack(">I4sI", offset + len(body), b"", 0x02400000) + kind + space + connection
    header += bytes(12) + b"acsp" + bytes(28) + _d50() + bytes(48)
    return header + index + body


def _d50() -> bytes:
    return _xyz(D50)[8:]


def _xyz(value: XYZ) -> bytes:
    return b"XYZ " + bytes(4) + b"".join(struct.pack(">i", round(x * 65536)) for x in value)


def _gamma(value: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(value * 256))
