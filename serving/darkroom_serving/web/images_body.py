"""Requests for images as clients send them: other names of fields, numbers as text, what is not used."""

import re
from collections.abc import Mapping
from typing import Any, Final

from darkroom_sampling.samplers import sampler_by_name
from darkroom_serving.errors import ApiError, bad_request
from darkroom_serving.settings import Limits
from darkroom_serving.web.parsing import check_names, parse_fields, read_object
from darkroom_serving.web.sampler_names import sampler_named
from darkroom_serving.web.wire import SIZE_STEP, ImagesRequest, shown

SYNONYMS: Final = {
    "steps": "num_inference_steps",
    "cfg_scale": "guidance_scale",
    "num_images": "n",
    "num_images_per_prompt": "n",
    "batch_size": "n",
    "sampler_name": "sampler",
    "sampler_index": "sampler",
    "scheduler": "sampler",
}
"""Names that other image servers gave to our fields."""

_KNOWN: Final = [*ImagesRequest.model_fields, *SYNONYMS, "width", "height"]

_NOT_USED: Final = (
    "user",
    "safety_identifier",
    "quality",
    "style",
    "moderation",
    "partial_images",
)
"""Taken, because clients send them whatever the server is."""

_OWN_SCHEDULE: Final = ("", "automatic")
"""AUTOMATIC1111's `scheduler` for the noise levels that belong to the model."""

_SAMPLERS: Final = ("sampler", "sampler_name", "sampler_index")

_WHOLE: Final = ("n", "num_inference_steps", "seed", "output_compression")
_REAL: Final = ("guidance_scale", "eta")

_WHOLE_TEXT: Final = re.compile(r"\s*([+-]?[0-9]{1,20})(\.0*)?\s*", re.ASCII)
_TIMES: Final = re.compile("\\s*[x*\N{MULTIPLICATION SIGN}]\\s*")
_REAL_TEXT: Final = re.compile(r"\s*[+-]?[0-9]{1,20}(\.[0-9]{0,20})?\s*", re.ASCII)


def parse_images_request(body: bytes, limits: Limits) -> ImagesRequest:
    """Reads and checks a JSON body; raises ApiError for the first thing that is wrong."""
    return parse_images_fields(read_object(body), limits)


def parse_images_fields(fields: Mapping[str, Any], limits: Limits) -> ImagesRequest:
    """Checks a request for images; raises ApiError, which names a field as it was sent."""
    check_names(fields, _KNOWN)
    ours, sent_as = _in_our_names(fields)
    try:
        request = parse_fields(ImagesRequest, _read(ours))
        _check_limits(request, limits)
    except ApiError as error:
        raise _as_sent(error, sent_as) from None
    return request


def warnings_of(request: ImagesRequest) -> list[str]:
    """What a request asks for and does not get."""
    fields = {name: getattr(request, name) for name in _NOT_USED}
    warnings = [
        f"{name}: {shown(value)} is not used"
        for name, value in fields.items()
        if value not in (None, 0, "", "auto")
    ]
    if request.response_format == "url":
        warnings.append("response_format: no images are kept, each URL holds its image (data:)")
    if request.output_format == "png" and request.output_compression != 100:
        warnings.append("output_compression: is not used with png, which loses nothing")
    return warnings


def _in_our_names(fields: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The fields by our names, and the name that each was sent by; raises ApiError for two that differ."""
    ours: dict[str, Any] = {}
    sent_as: dict[str, str] = {}
    for name, value in _with_size(_with_schedule(fields)).items():
        if value is None:
            continue
        our_name = SYNONYMS.get(name, name)
        value = _value(our_name, value)
        if our_name in ours and ours[our_name] != value:
            problem = f"says the same as {sent_as[our_name]}, which is {shown(ours[our_name])}"
            raise bad_request(name, problem, "leave one of them out")
        ours[our_name] = value
        sent_as.setdefault(our_name, name)
    return ours, sent_as


def _with_schedule(fields: Mapping[str, Any]) -> dict[str, Any]:
    """With a `scheduler` beside a sampler made one sampler; raises ApiError where that sampler lacks it."""
    kept = dict(fields)
    schedule = kept.get("scheduler")
    if not isinstance(schedule, str):
        return kept
    named = next((name for name in _SAMPLERS if isinstance(kept.get(name), str)), None)
    if schedule.lower() in _OWN_SCHEDULE:
        del kept["scheduler"]
    elif named is not None:
        kept[named] = _sampler(kept[named], kept.pop("scheduler"))
    return kept


def _sampler(name: str, schedule: str) -> str:
    if sampler_by_name(name) is None:
        return name  # refused with the list of those there are
    found = sampler_by_name(name, schedule)
    if found is None:
        problem = f"{shown(schedule)} is not available with {shown(name)}"
        raise bad_request(
            "scheduler", problem, "leave it out: the model's own noise levels are used"
        )
    return found


def _with_size(fields: dict[str, Any]) -> dict[str, Any]:
    """With `width` and `height` as a size; raises ApiError for one without the other."""
    sides = {name: _whole(fields.pop(name, None)) for name in ("width", "height")}
    given = [name for name, side in sides.items() if side is not None]
    if not given:
        return fields
    if len(given) == 1:
        raise bad_request(given[0], "is one side only", "add the other, or write size")
    for name, side in sides.items():
        if not isinstance(side, int) or isinstance(side, bool):
            raise bad_request(name, f"{shown(side)} is not a number of pixels", "write digits")
    size = f"{sides['width']}x{sides['height']}"
    if fields.get("size") in (None, "auto", size):
        return {**fields, "size": size}
    raise bad_request(
        "size", f"is {shown(fields['size'])}, but width and height say {size}", "leave one out"
    )


def _value(name: str, value: Any) -> Any:
    """A value as our field has it, where it is only written differently."""
    if name in _WHOLE:
        return _whole(value)
    if name in _REAL and isinstance(value, str) and _REAL_TEXT.fullmatch(value):
        return float(value)
    if name == "sampler" and isinstance(value, str):
        return sampler_named(value)
    if name == "size" and isinstance(value, str):
        return _TIMES.sub("x", value.strip().lower())
    return value


def _whole(value: Any) -> Any:
    """2 for "2", 2.0 and "2.0"; anything else as it is."""
    if isinstance(value, str) and (match := _WHOLE_TEXT.fullmatch(value)):
        return int(match[1])
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _read(fields: dict[str, Any]) -> dict[str, Any]:
    """Without a seed of -1, by which others ask for a random one."""
    return {name: value for name, value in fields.items() if (name, value) != ("seed", -1)}


def _as_sent(error: ApiError, sent_as: Mapping[str, str]) -> ApiError:
    """The error with the name that the client gave the field."""
    name = sent_as.get(error.param or "", error.param)
    if error.param is None or name is None or name == error.param:
        return error
    message = error.message.replace(error.param, name, 1)
    return ApiError(error.status, message, name, error.code, error.kind)


def _check_limits(request: ImagesRequest, limits: Limits) -> None:
    for name in ("prompt", "negative_prompt"):
        count, most = len(getattr(request, name)), limits.max_prompt_chars
        if count > most:
            problem = f"has {count} characters, at most {most} are read"
            raise bad_request(name, problem, "shorten it")
    _check_most("n", request.n, limits.max_images)
    _check_most("num_inference_steps", request.num_inference_steps, limits.max_steps)
    if request.sides and max(request.sides) > limits.max_side:
        raise _too_large(request.sides, limits.max_side)


def _check_most(name: str, value: int, most: int) -> None:
    if value > most:
        raise bad_request(name, f"must be at most {most}", f"it is {value}: change it")


def _too_large(sides: tuple[int, int], most: int) -> ApiError:
    """Names the largest size of about the same shape."""
    scaled = [side * most // max(sides) // SIZE_STEP * SIZE_STEP for side in sides]
    near = "x".join(str(max(side, SIZE_STEP)) for side in scaled)
    size = "x".join(map(str, sides))
    fix = f"no side may exceed {most} pixels: try {near}"
    return bad_request("size", f"{size} is too large", fix)
