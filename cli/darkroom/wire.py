"""The client's side of the HTTP interface: requests, answers and errors, without sending anything.

`client.py` sends them, synchronously or not.
"""

import base64
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict


class DarkroomError(Exception):
    """A request failed: the server refused it, or could not be reached."""

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        status: int | None = None,
    ) -> None:
        """`param` is the parameter that is wrong, `status` the HTTP status if there was an answer."""
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code
        self.status = status


class ImageOptions(TypedDict, total=False):
    """Options of `generate`; what is left out takes the server's default."""

    model: str
    """Id of a model, from `models()`; the base model when left out."""

    n: int
    """Number of images."""

    size: str
    """WIDTHxHEIGHT in pixels, for example 512x512, or auto: what the model was trained at."""

    num_inference_steps: int
    """Denoising steps."""

    guidance_scale: float
    """How much more strongly than it asks for itself the prompt is followed; 1 is no more."""

    negative_prompt: str
    """What the images shall not show."""

    seed: int
    """Seed of the first image; the next ones count on from it."""

    sampler: str
    """Name of the sampler, for example ddim."""

    eta: float
    """Share of the noise of ddpm that ddim adds in each step, 0 to 1."""


@dataclass(frozen=True)
class GeneratedImage:
    """One image that was drawn."""

    png: bytes
    """A whole PNG file, with the prompt, seed and model in its text."""

    seed: int
    """Draws it again."""

    warnings: tuple[str, ...] = ()
    """What was done otherwise than asked, for example a prompt that was cut off."""


@dataclass(frozen=True)
class Prediction:
    """One label that a classifier gave to a picture."""

    label: str
    score: float
    """Probability, 0 to 1."""


@dataclass(frozen=True)
class Request:
    """What is sent, but for the server's address."""

    method: str
    path: str
    params: dict[str, str | int] = field(default_factory=dict)
    json: dict[str, Any] | None = None
    content: bytes | None = None


def images_request(prompt: str, options: ImageOptions) -> Request:
    """Asks for images of a prompt, as PNG in the answer."""
    body = {"prompt": prompt, "response_format": "b64_json", **options}
    return Request("POST", "/v1/images/generations", json=body)


def classify_request(image: bytes | str | Path, top_k: int) -> Request:
    """Asks what a picture shows; a path is read here."""
    content = image if isinstance(image, bytes) else Path(image).read_bytes()
    return Request("POST", "/v1/classify", params={"top_k": top_k}, content=content)


def models_request() -> Request:
    """Asks for the models that can be used."""
    return Request("GET", "/v1/models")


def parse_images(answer: Any) -> list[GeneratedImage]:
    """The images of an answer; raises DarkroomError for one that is not in the expected shape."""
    try:
        warnings = tuple(map(str, answer["warnings"]))
        return [
            GeneratedImage(
                base64.b64decode(item["b64_json"], validate=True), int(item["seed"]), warnings
            )
            for item in answer["data"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise _strange(answer) from error


def parse_predictions(answer: Any) -> list[Prediction]:
    """The labels of an answer, likeliest first; errors as `parse_images`."""
    try:
        return [
            Prediction(str(item["label"]), float(item["score"])) for item in answer["predictions"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise _strange(answer) from error


def parse_models(answer: Any) -> list[str]:
    """The models' ids of an answer; errors as `parse_images`."""
    try:
        return [str(item["id"]) for item in answer["data"]]
    except (KeyError, TypeError) as error:
        raise _strange(answer) from error


def error_of(status: int, answer: Any) -> DarkroomError:
    """The error in an answer of OpenAI's shape: {"error": {"message", "param", "code"}}."""
    error = answer.get("error") if isinstance(answer, dict) else None
    if not isinstance(error, dict) or not isinstance(error.get("message"), str):
        return DarkroomError(f"the server answered with status {status}", status=status)
    return DarkroomError(
        error["message"], param=error.get("param"), code=error.get("code"), status=status
    )


def _strange(answer: Any) -> DarkroomError:
    return DarkroomError(
        f"the answer has an unexpected shape: {str(answer)[:80]}; is this a darkroom server?"
    )
