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
    """Number of images."""

    size: str = "auto"
    """WIDTHxHEIGHT in pixels, or auto: the size that the model was trained at."""

    response_format: str = "b64_json"
    """Only b64_json."""

    output_format: Literal["png"] = "png"
    """Only png."""

    stream: Literal[False] = False
    """Only false."""

    negative_prompt: str = ""
    """What the images do not show."""

    num_inference_steps: Annotated[int, Field(ge=1)] = DEFAULT_STEPS
    """Denoising steps."""

    guidance_scale: Annotated[float, Field(ge=0, le=100)] = DEFAULT_GUIDANCE
    """How strongly the prompt is followed; with 1 or less there is no guidance."""

    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = None
    """Seed of the first image, the next ones count on; chosen at random when absent."""

    sampler: Sampler = Sampler.DDIM
    """Sampler, from the same schedule as the model's own."""

    eta: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the noise of ddpm that ddim adds in each step; other samplers take none."""

    user: Any = None
    """OpenAI's; not used."""

    quality: Any = None
    """OpenAI's; not used."""

    style: Any = None
    """OpenAI's; not used."""

    background: Any = None
    """OpenAI's; not used."""

    moderation: Any = None
    """OpenAI's; not used."""

    output_compression: Any = None
    """OpenAI's; not used."""

    partial_images: Any = None
    """OpenAI's; not used."""

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

    @field_validator("response_format")
    @classmethod
    def _is_inline(cls, response_format: str) -> str:
        if response_format != "b64_json":
            raise ValueError(
                f"{shown(response_format)} is not available, images are not kept on the server;"
                " ask for b64_json"
            )
        return response_format

    @property
    def sides(self) -> tuple[int, int] | None:
        """Width and height in pixels; None for auto."""
        match = _SIZE.fullmatch(self.size)
        return (int(match[1]), int(match[2])) if match else None


class ImageData(_Answer):
    """One image that was drawn."""

    b64_json: str
    """A PNG file in base64; its text says how it was made."""

    seed: int
    """Draws it again, alone, to the same bytes."""


class ImagesResponse(_Answer):
    """Answer of `POST /v1/images/generations`."""

    created: int
    """When, in seconds since 1970."""

    data: list[ImageData]
    """The images, in the order of their seeds."""

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
