"""Takes the text out of a PNG before a decoder sees it: megabytes of it are common, bombs are not.

Chunks are those of the PNG specification (third edition, section 11.3.3): length, type, data, CRC.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from darkroom_api.pictures.bounds import MAX_PROFILE_BYTES, MAX_TEXT_BYTES, UnfitPictureError

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"

_TEXT: Final = (b"tEXt", b"zTXt", b"iTXt")
_PIECE_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class PlainPng:
    """A PNG without text and profile."""

    content: bytes
    profile: bytes | None
    """Its ICC profile, unpacked; None where there is none that can be read."""


def plain_png(content: bytes) -> PlainPng:
    """The same picture without text; raises UnfitPictureError where that unpacks to too much."""
    kept: list[bytes | memoryview] = [SIGNATURE]
    profile, text_bytes = None, 0
    view = memoryview(content)
    for kind, start, end in _chunks(content):
        if kind in _TEXT:
            text_bytes += _unpacked_size(kind, view[start + 8 : end - 4])
            if text_bytes > MAX_TEXT_BYTES:
                raise UnfitPictureError(
                    f"is a text bomb: its text unpacks to more than {MAX_TEXT_BYTES >> 20} MiB;"
                    " save the picture without text"
                )
        elif kind == b"iCCP":
            profile = _profile(bytes(view[start + 8 : end - 4]))
        else:
            kept.append(view[start:end])
    is_plain = sum(map(len, kept)) == len(content)  # as most are: a large file is not held twice
    return PlainPng(content if is_plain else b"".join(kept), profile)


def _chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Type, start and end of each chunk; what is cut off is left to the decoder, as one chunk."""
    position = len(SIGNATURE)
    while position < len(content):
        length = int.from_bytes(content[position : position + 4])
        end = min(position + 12 + length, len(content))
        yield content[position + 4 : position + 8], position, end
        position = end


def _unpacked_size(kind: bytes, data: memoryview) -> int:
    """Bytes of a chunk's text, counted piece by piece and no further than a bomb needs to be known as one."""
    packed = _packed_text(kind, bytes(data))
    if packed is None:
        return len(data)
    size, unpacker = 0, zlib.decompressobj()
    try:
        while packed and not unpacker.eof and size <= MAX_TEXT_BYTES:
            size += len(unpacker.decompress(packed, _PIECE_BYTES))
            packed = unpacker.unconsumed_tail
    except zlib.error:  # damaged text is no text
        return size
    return size


def _packed_text(kind: bytes, data: bytes) -> bytes | None:
    """The compressed part of a chunk of text; None where it is plain."""
    _, _, rest = data.partition(b"\0")
    if kind == b"zTXt":
        return rest[1:]
    if kind == b"iTXt" and rest[:1] == b"\1":
        _language, _, rest = rest[2:].partition(b"\0")
        _keyword, _, text = rest.partition(b"\0")
        return text
    return None


def _profile(data: bytes) -> bytes | None:
    _name, _, packed = data.partition(b"\0")
    try:
        unpacker = zlib.decompressobj()
        profile = unpacker.decompress(packed[1:], MAX_PROFILE_BYTES)
    except zlib.error:
        return None
    return profile if unpacker.eof else None
