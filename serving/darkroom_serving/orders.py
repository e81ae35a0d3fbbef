"""What is drawn, whichever dialect asked for it: orders go in at one end, events of their pictures come out."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from darkroom_sampling.samplers import Sampler
from darkroom_serving.errors import ApiError


class PictureFormat(StrEnum):
    """What pictures are written as, by Pillow's names."""

    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"

    @property
    def media_type(self) -> str:
        """As HTTP calls it."""
        return f"image/{self}"


@dataclass(frozen=True)
class WeightedModel:
    """An adapter or token embeddings that a picture is drawn with."""

    model_id: str
    scale: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Original:
    """A picture to begin from, in place of noise alone."""

    picture: bytes
    """Its file, as a client sent it."""

    strength: float
    """Share of the noise levels that it goes back up, 0 (it stays) to 1 (nothing is left of it)."""

    mask: bytes | None = None
    """File of a picture of the same sides: drawn anew where that is transparent, or white where it has no alpha."""


@dataclass(frozen=True, kw_only=True)
class DrawOrder:
    """What a client wants drawn; what is None is chosen by the model."""

    prompt: str
    negative_prompt: str = ""
    model_id: str | None = None
    """The base model when None."""

    additions: Sequence[WeightedModel] = ()
    """Of the registry, put on the model beside what it is itself."""

    n: int = 1
    """Pictures; their seeds count on."""

    sides: tuple[int, int] | None = None
    """Width and height in pixels."""

    steps: int | None = None
    guidance_scale: float | None = None
    """1 or less: none."""

    sampler: Sampler | None = None
    eta: float = 0.0
    seed: int | None = None
    original: Original | None = None
    picture_format: PictureFormat = PictureFormat.PNG
    quality: int | None = None
    """Of JPEG and WEBP, 0 to 100."""

    previews: int = 0
    """Pictures of what is half done, spread over the steps of each picture."""

    deterministic: bool = True
    """Whether a seed gives the same bytes whatever else is drawn at the time."""

    deadline_s: float | None = None
    """Seconds from now after which nobody waits for it."""


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Every choice that was made for a picture: they draw it again, alone, to the same bytes."""

    model_id: str
    digest: str
    prompt: str
    negative_prompt: str
    width: int
    height: int
    steps: int
    guidance_scale: float
    sampler: Sampler
    eta: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """First event of an order."""

    position: int
    """Pictures that are drawn or wait before it."""

    eta_s: float
    """Seconds until it is done, by what steps took so far."""

    pictures: Sequence[Parameters]
    warnings: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """A step of a picture was taken."""

    index: int
    """Which picture of the order."""

    step: int
    steps: int


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What a picture looks like half done."""

    index: int
    number: int
    """Which preview of the picture, from 0."""

    file: bytes
    """In the order's format."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A picture is done."""

    index: int
    file: bytes
    """In the order's format; a PNG's text says how it was made."""


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A picture that there won't be: flagged, or not drawable."""

    index: int
    error: ApiError


Event = Accepted | Progress | Preview | Drawn | Refused
"""What becomes of an order: one Accepted, then for each picture any number of Progress and Preview, and one end."""
