"""What an evaluation found: the content of `evaluation.json`, frozen and typed."""

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from darkroom_api.artifact import Sha256

MEANINGS: Final = {
    "dino": "likeness of the subject's pictures to the photos, to DINO; higher is better",
    "clip_i": "likeness of the subject's pictures to the photos, to CLIP; higher is better",
    "clip_t": "likeness of the subject's pictures to their prompts without the identifier; higher is better",
    "pres": "likeness of other pictures of the class to the photos, to DINO; lower is better",
    "div_dino": "1 - cosine between pictures of one prompt, to DINO (the paper has LPIPS); higher is better",
    "gallery_map": "mean average precision of finding the photos among look-alikes; higher is better",
    "gallery_rank_1": "share of the pictures whose best match in the gallery is a photo; higher is better",
}
"""What each figure says."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Figure(_Record):
    """A mean with its interval."""

    value: float

    low: float | None
    """Lower end of the 95 % percentile bootstrap interval; None where there is only one value."""

    high: float | None
    """Upper end."""


class Figures(_Record):
    """All figures; intervals are over prompts, that of PRES over pictures."""

    dino: Figure
    clip_i: Figure
    clip_t: Figure
    pres: Figure
    div_dino: Figure | None
    """None with one picture a prompt."""

    gallery_map: Figure
    gallery_rank_1: Figure


class PhotoFigures(_Record):
    """The photos compared with each other: about the best that pictures of the subject can reach."""

    dino: float
    clip_i: float


class PromptScores(_Record):
    """The pictures of one prompt."""

    prompt: str
    """What was drawn."""

    text: str
    """What CLIP-T compares with: the prompt without the identifier."""

    seeds: list[int]
    """Of its pictures, in order."""

    dino: float
    clip_i: float
    clip_t: float
    div_dino: float | None


class ClassPictures(_Record):
    """The pictures of the class, for PRES."""

    prompt: str
    seeds: list[int]


class EvaluatedModel(_Record):
    """Which model it was."""

    id: str
    digest: Sha256
    base_digest: Sha256 | None
    """Of the base that an adapter or token embeddings were drawn on; None for a whole model."""

    identifier: str
    class_noun: str


class EncoderUsed(_Record):
    """Which encoder judged: scores of two encoders are not to be compared."""

    folder: str
    class_name: str
    """In transformers."""

    digest: Sha256
    """Over all files of its folder."""


class Encoders(_Record):
    """Both encoders."""

    dino: EncoderUsed
    clip: EncoderUsed


class PictureSet(_Record):
    """Pictures that were given."""

    folder: str
    number: Annotated[int, Field(ge=1)]
    digest: Sha256
    """Over their files."""


class Drawing(_Record):
    """How the pictures were drawn."""

    seed: int
    """The seeds of all pictures follow from it, their prompt and their number."""

    images_per_prompt: int
    steps: int
    guidance_scale: float
    sampler: str
    width: int
    """In pixels."""

    height: int
    device: str
    """On another one the same seeds give slightly other pictures."""


class Evaluation(_Record):
    """`evaluation.json`."""

    schema_version: int = 1
    """Version of this format."""

    model: EvaluatedModel
    figures: Figures
    photos_among_themselves: PhotoFigures
    photos: PictureSet
    look_alikes: PictureSet | None
    """Those of `--gallery`; None where the pictures of the class were the look-alikes."""

    prompts: list[PromptScores]
    class_pictures: ClassPictures
    encoders: Encoders
    drawing: Drawing
    warnings: list[str]
    versions: dict[str, str]
    """Packages that took part."""
