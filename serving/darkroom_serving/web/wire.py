"""What goes over HTTP: requests and answers in the shape of OpenAI's Images and Models API.

Fields that OpenAI's own API lacks have the names that other image servers gave them.
"""

import json
import re
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from darkroom_sampling.samplers import Sampler

SIZE_STEP: Final = 8
"""Sides of images are multiples of it, in pixels."""

MAX_SEED: Final = 2**63 - 1

DEFAULT_STEPS: Final = 25
DEFAULT_GUIDANCE: Final = 4.0
DEFAULT_TOP_K: Final = 5

_SIZE: Final = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", re.ASCII)
_SIZE_OR_AUTO: Final = f"^(auto|{_SIZE.pattern})$"


class _Request(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class ImagesRequest(_Request):
    """Body of `POST /v1/images/generations`; a field that is null takes its default."""

    prompt: Annotated[str, Field(min_length=1)]
    """What the images show."""

    model: str | None = None
    """Id of a model of `GET /v1/models`; the base model when absent."""

    n: Annotated[int, Field(ge=1, le=10)] = 1
    """Number of images; also called num_images or batch_size."""

    size: Annotated[str, Field(json_schema_extra={"pattern": _SIZE_OR_AUTO})] = "auto"
    """WIDTHxHEIGHT in pixels, or auto: the size that the model was trained at; also width and height."""

    response_format: Literal["b64_json", "url"] = "b64_json"
    """How images are handed over: url gives `data:` URLs, since the server keeps no images."""

    output_format: Literal["png", "jpeg", "webp"] = "png"
    """Format of the files."""

    output_compression: Annotated[int, Field(ge=0, le=100)] = 100
    """Quality of jpeg and webp: 0 the smallest file, 100 the best; png loses nothing."""

    background: Literal["auto", "opaque"] = "auto"
    """Images are always opaque."""

    stream: Literal[False] = False
    """Only false."""

    negative_prompt: str = ""
    """What the images do not show."""

    num_inference_steps: Annotated[int, Field(ge=1)] = DEFAULT_STEPS
    """Denoising steps; also called steps."""

    guidance_scale: Annotated[float, Field(ge=0, le=100)] = DEFAULT_GUIDANCE
    """How strongly the prompt is followed; with 1 or less there is no guidance; also called cfg_scale."""

    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = None
    """Seed of the first image, the next ones count on; chosen at random when absent or -1."""

    sampler: Sampler = Sampler.DDIM
    """Sampler, with the model's own noise levels; names of AUTOMATIC1111, ComfyUI and diffusers are read, too."""

    eta: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of noise that ddim (of ddpm's) and tcd add in each step; other samplers take none."""

    user: Any = None
    """OpenAI's; not used, the answer warns of it."""

    safety_identifier: Any = None
    """OpenAI's; not used, the answer warns of it."""

    quality: Any = None
    """OpenAI's; not used, the answer warns of it."""

    style: Any = None
    """OpenAI's; not used, the answer warns of it."""

    moderation: Any = None
    """OpenAI's; not used, the answer warns of it."""

    partial_images: Any = None
    """OpenAI's; not used, the answer warns of it."""

    @field_validator("prompt")
    @classmethod
    def _says_something(cls, prompt: str) -> str:
        if not prompt.strip():
            raise ValueError("is blank; say what to draw")
        return prompt

    @field_validator("size")
    @classmethod
    def _is_a_size(cls, size: str) -> str:
        if size == "auto":
            return size
        match = _SIZE.fullmatch(size)
        if match is None:
            raise ValueError(f"{shown(size)} is not a size; write WIDTHxHEIGHT, for example 64x64")
        sides = [int(side) for side in match.groups()]
        if any(side % SIZE_STEP for side in sides):
            near = "x".join(str(max(round(side / SIZE_STEP), 1) * SIZE_STEP) for side in sides)
            raise ValueError(
                f"both sides must be multiples of {SIZE_STEP} pixels; it is {size}: try {near}"
            )
        return size

    @property
    def sides(self) -> tuple[int, int] | None:
        """Width and height in pixels; None for auto."""
        match = _SIZE.fullmatch(self.size)
        return (int(match[1]), int(match[2])) if match else None


class ImageData(_Answer):
    """One image that was drawn."""

    b64_json: str | None = None
    """The file in base64, unless URLs were asked for; its text says how it was made."""

    url: str | None = None
    """A `data:` URL that holds the file, when URLs were asked for."""

    seed: int
    """Draws it again, alone, to the same bytes."""


class Parameters(_Answer):
    """What the images were drawn with: sent as a request it draws them again."""

    model: str
    """Id of the model."""

    digest: str
    """Content digest of the model's files."""

    size: str
    """WIDTHxHEIGHT in pixels."""

    num_inference_steps: int
    """Denoising steps."""

    guidance_scale: float
    """How strongly the prompt was followed."""

    sampler: Sampler
    """The sampler that drew."""

    eta: float
    """Share of the noise of ddpm."""

    seed: int
    """Seed of the first image."""


class ImagesResponse(_Answer):
    """Answer of `POST /v1/images/generations`."""

    created: int
    """When, in seconds since 1970."""

    data: list[ImageData]
    """The images, in the order of their seeds."""

    output_format: Literal["png", "jpeg", "webp"] = "png"
    """Format of their files."""

    parameters: Parameters
    """What they were drawn with, everything chosen."""

    warnings: list[str] = []
    """What was done otherwise than asked, for example a prompt that was cut off."""


class ModelCard(_Answer):
    """One model, as in OpenAI's Models API, and what darkroom knows beyond it."""

    id: str
    """What a request calls it."""

    object: Literal["model"] = "model"
    """OpenAI's name of the type."""

    created: int
    """When it was published, in seconds since 1970."""

    owned_by: str
    """Namespace of the job that made it."""

    digest: str
    """Content digest of its files."""

    parent: str | None = None
    """Content digest of the base model that it was made from."""

    instance_prompt: str | None = None
    """Prompt that calls up its subject."""

    class_prompt: str | None = None
    """Prompt of the class that was preserved."""


class ModelList(_Answer):
    """Answer of `GET /v1/models`: the base model, then the subjects."""

    object: Literal["list"] = "list"
    """OpenAI's name of the type."""

    data: list[ModelCard]
    """The models."""


class ScoreFunction(StrEnum):
    """How scores come from logits; the names are Hugging Face's."""

    SOFTMAX = "softmax"
    SIGMOID = "sigmoid"
    NONE = "none"


class Prediction(_Answer):
    """One label of a picture."""

    label: str
    """As in the classifier's own configuration."""

    score: float
    """Probability, 0 to 1; the logit where `function_to_apply` is none."""


class ClassifyResponse(_Answer):
    """Answer of `POST /v1/classify`."""

    model: str
    """Name of the classifier."""

    predictions: list[Prediction]
    """Likeliest first."""


MAX_SHOWN: Final = 40
"""Characters of a value in an error."""


def shown(value: object) -> str:
    """A value as an error shows it: short, in quotes when it is text."""
    text = (
        f'"{value}"'
        if isinstance(value, str)
        else json.dumps(value, default=str, ensure_ascii=False)
    )
    short = text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."
    return short.encode(errors="backslashreplace").decode()  # JSON may hold half a character
