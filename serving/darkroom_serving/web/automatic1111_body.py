"""Requests of AUTOMATIC1111's clients as ours; what would change the picture and is not there is refused by name."""

import re
from collections.abc import Mapping
from typing import Any, Final

from darkroom_sampling.samplers import SPECS, Sampler
from darkroom_serving.errors import ApiError, bad_request
from darkroom_serving.settings import Limits
from darkroom_serving.web.images_body import parse_images_fields
from darkroom_serving.web.parsing import check_names
from darkroom_serving.web.sampler_names import sampler_named
from darkroom_serving.web.wire import ImagesRequest, shown

_OURS: Final = (
    "prompt",
    "negative_prompt",
    "seed",
    "steps",
    "cfg_scale",
    "width",
    "height",
    "sampler_name",
    "scheduler",
)
"""Fields that go on as they are."""

_READ: Final = ("sampler_index", "batch_size", "n_iter", "eta", "override_settings")
"""Fields that are read here."""

_NEUTRAL: Final[dict[str, tuple[Any, ...]]] = {
    "enable_hr": (False,),
    "restore_faces": (False,),
    "tiling": (False,),
    "subseed_strength": (0,),
    "seed_resize_from_h": (0, -1),
    "seed_resize_from_w": (0, -1),
    "styles": ([],),
    "script_name": ("",),
    "script_args": ([],),
    "alwayson_scripts": ({},),
    "refiner_checkpoint": ("",),
    "refiner_switch_at": (0,),
    "s_churn": (0,),
    "s_tmin": (0,),
    "s_tmax": (0,),
    "s_noise": (1,),
    "s_min_uncond": (0,),
    "send_images": (True,),
    "infotext": ("",),
    "firstpass_image": ("",),
}
"""Fields that would change the picture, with the values by which they don't."""

_WITHOUT_EFFECT: Final = (
    "denoising_strength",
    "firstphase_width",
    "firstphase_height",
    "hr_scale",
    "hr_upscaler",
    "hr_second_pass_steps",
    "hr_resize_x",
    "hr_resize_y",
    "hr_checkpoint_name",
    "hr_sampler_name",
    "hr_scheduler",
    "hr_prompt",
    "hr_negative_prompt",
    "subseed",
    "do_not_save_samples",
    "do_not_save_grid",
    "save_images",
    "force_task_id",
    "override_settings_restore_afterwards",
    "disable_extra_networks",
    "comments",
)
"""Fields that matter only with others that are refused, or that are about files on that server."""

_KNOWN: Final = [*_OURS, *_READ, *_NEUTRAL, *_WITHOUT_EFFECT]

_TAKE_ETA: Final = [name for name, spec in SPECS.items() if spec.takes_eta]
_ANCESTRAL: Final = (Sampler.EULER_A, Sampler.KDPM2_A, Sampler.KDPM2_A_KARRAS)

_LORA: Final = re.compile(r"<(?:lora|lyco|hypernet):[^>]*>")


def parse_txt2img(body: Mapping[str, Any], limits: Limits) -> ImagesRequest:
    """Checks the body of `POST /sdapi/v1/txt2img`; raises ApiError, which names a field as it was sent."""
    check_names(body, _KNOWN)
    given = {name: value for name, value in body.items() if value is not None}
    for name, values in _NEUTRAL.items():
        if name in given and given[name] not in values:
            fix = f"leave it out, or set {shown(values[0])}"
            raise bad_request(name, f"{shown(given[name])} is not available", fix)
    _refuse_networks(given.get("prompt"))
    fields: dict[str, Any] = {name: given[name] for name in _OURS if name in given}
    fields.setdefault("sampler_name", given.get("sampler_index"))
    fields["model"] = _model(given.get("override_settings", {}))
    fields["n"] = _count(given)
    fields["eta"] = _eta(given.get("eta"), fields["sampler_name"])
    return _parse(fields, limits)


def _parse(fields: Mapping[str, Any], limits: Limits) -> ImagesRequest:
    try:
        return parse_images_fields(fields, limits)
    except ApiError as error:
        if error.param == "n":  # which is not a field here
            problem, _, fix = error.message.removeprefix("n: ").partition("; ")
            raise bad_request("batch_size", problem, fix, error.code) from None
        raise


def _refuse_networks(prompt: Any) -> None:
    if isinstance(prompt, str) and (match := _LORA.search(prompt)):
        fix = "name the model in override_settings.sd_model_checkpoint"
        raise bad_request("prompt", f"{shown(match[0])} is not read", fix)


def _model(overrides: Any) -> Any:
    """The model that the settings of a request name; None for the base model."""
    if not isinstance(overrides, dict):
        raise bad_request("override_settings", "is not an object", "leave it out")
    for name in overrides:
        if name != "sd_model_checkpoint":
            raise bad_request(f"override_settings.{name}", "is not available", "leave it out")
    return overrides.get("sd_model_checkpoint")


def _count(given: Mapping[str, Any]) -> int:
    """Images of all batches."""
    count = 1
    for name in ("batch_size", "n_iter"):
        value = given.get(name, 1)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise bad_request(name, f"{shown(value)} is not a number of images", "write 1 or more")
        count *= value
    return count


def _eta(value: Any, sampler: Any) -> Any:
    """For those that take one; ancestral samplers have 1, and the others take none whatever is sent."""
    name = sampler_named(sampler) if isinstance(sampler, str) else None
    if name in _TAKE_ETA:
        return value
    if name in _ANCESTRAL and value not in (None, 1):
        raise bad_request("eta", f"{shown(value)} is not available with {sampler}", "set 1")
    return None
