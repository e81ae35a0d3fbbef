"""What safetensors files hold: names, shapes and types of their tensors, and how large the numbers are."""

import hashlib
import json
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import isfinite, prod
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Final

import numpy as np

from darkroom_api.artifact import FileEntry

CHUNK_BYTES: Final = 1 << 22
"""How much is read at once; a multiple of every type's size."""

MAX_HEADER_BYTES: Final = 100_000_000
"""As safetensors itself bounds it."""


GIT_LFS: Final = b"version "
"""How a file begins that a clone without Git LFS has in the place of a large one."""


@dataclass(frozen=True)
class TensorInfo:
    """One tensor, as the header describes it."""

    dtype: str
    """In safetensors' words: `F16`, `BF16`, `F32`, `I64`."""

    shape: tuple[int, ...]
    begin: int
    end: int
    """Its bytes, counted from the end of the header."""


@dataclass(frozen=True)
class _FloatType:
    """The bits of a floating-point type; without the sign they are ordered as the numbers are."""

    bits: str
    magnitude: int
    floats: str
    shift: int = 0

    def largest(self, chunk: bytes) -> int:
        return int((np.frombuffer(chunk, self.bits) & self.magnitude).max())

    def value(self, bits: int) -> float:
        """The number of those bits; infinite or NaN where they say so."""
        wide = np.array([bits << self.shift], np.dtype(self.floats.replace("f", "u")))
        return float(wide.view(self.floats)[0])


_FLOATS: Final = MappingProxyType(
    {
        "F16": _FloatType("<u2", 0x7FFF, "<f2"),
        "BF16": _FloatType("<u2", 0x7FFF, "<f4", shift=16),
        "F32": _FloatType("<u4", 0x7FFF_FFFF, "<f4"),
        "F64": _FloatType("<u8", 0x7FFF_FFFF_FFFF_FFFF, "<f8"),
    }
)

QUANTISED: Final = ("F8_", "F6_", "F4", "I8", "U8")
"""How the types begin of weights that can't be trained as they are."""


def read_header(path: Path) -> dict[str, TensorInfo]:
    """The tensors of a file in the order of their bytes; raises ValueError when it is damaged."""
    with path.open("rb") as file:
        return _parse_header(file, path)


def read_metadata(path: Path) -> dict[str, str]:
    """What the header of an intact file says beside its tensors."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        found = json.loads(file.read(length)).get("__metadata__", {})
    return {str(key): str(value) for key, value in found.items()}


def count_elements(tensors: Iterable[TensorInfo]) -> int:
    """Numbers in all tensors."""
    return sum(prod(tensor.shape) for tensor in tensors)


def hash_and_scan(path: Path) -> tuple[FileEntry, dict[str, float]]:
    """Digest and size of a file, and the largest magnitude of each of its floating-point tensors.

    Reads it once. A tensor with a NaN or an infinity has that as its magnitude. Raises ValueError when
    the file is damaged.
    """
    digest = hashlib.sha256()
    magnitudes = {}
    with path.open("rb") as file:
        tensors = _parse_header(file, path)
        start = file.tell()
        file.seek(0)
        digest.update(file.read(start))
        for name, tensor in tensors.items():
            found = _FLOATS.get(tensor.dtype)
            largest = 0
            for chunk in _chunks(file, tensor.end - tensor.begin):
                digest.update(chunk)
                if found is not None:
                    largest = max(largest, found.largest(chunk))
            if found is not None:
                magnitudes[name] = found.value(largest)
        size_bytes = file.tell()
    return FileEntry(sha256=digest.hexdigest(), size_bytes=size_bytes), magnitudes


def not_finite(magnitudes: Mapping[str, float]) -> list[str]:
    """Names of the tensors that hold a NaN or an infinity."""
    return [name for name, value in magnitudes.items() if not isfinite(value)]


def read_rows(path: Path, tensor: TensorInfo) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A floating-point matrix in float32; the file must be the one that the header came from."""
    kind = _FLOATS[tensor.dtype]
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        file.seek(8 + length + tensor.begin)
        raw = np.frombuffer(file.read(tensor.end - tensor.begin), kind.bits)
    if kind.shift:
        raw = raw.astype(np.uint32) << kind.shift
    return raw.view(kind.floats).astype(np.float32).reshape(tensor.shape)


def _parse_header(file: IO[bytes], path: Path) -> dict[str, TensorInfo]:
    """Leaves the file at its first tensor."""
    size_bytes = path.stat().st_size
    first = file.read(8)
    if first == GIT_LFS:
        raise ValueError(f"{path.name} is a pointer of Git LFS and not the file: run git lfs pull")
    length = struct.unpack("<Q", first)[0] if len(first) == 8 else MAX_HEADER_BYTES + 1
    if length > min(size_bytes, MAX_HEADER_BYTES):
        raise ValueError(f"{path.name} is cut off")
    try:
        content = json.loads(file.read(length))
        content.pop("__metadata__", None)
        tensors = {
            name: TensorInfo(one["dtype"], tuple(one["shape"]), *one["data_offsets"])
            for name, one in content.items()
        }
        tensors = dict(sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path.name} has no header of a safetensors file") from error
    end = 0
    for name, tensor in tensors.items():
        if tensor.begin != end or tensor.end < tensor.begin:
            raise ValueError(f"{path.name} has a wrong place for {name}")
        end = tensor.end
    if 8 + length + end != size_bytes:
        raise ValueError(f"{path.name} is cut off")
    return tensors


def _chunks(file: IO[bytes], size_bytes: int) -> Iterator[bytes]:
    while size_bytes > 0:
        chunk = file.read(min(CHUNK_BYTES, size_bytes))
        if not chunk:
            raise ValueError(f"{file.name} was cut off while it was read")
        size_bytes -= len(chunk)
        yield chunk
