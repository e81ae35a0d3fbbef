"""Compares a base model with its job and with its classes: what would fail later is refused here."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from darkroom_api.artifact import json_digest
from darkroom_api.frozen_encoders import trained_in_vain
from darkroom_api.integrity import hash_file, write_atomically
from darkroom_api.job import ExportPrecision, PersonalizationJobSpec
from darkroom_api.problems import Problem
from darkroom_api.status import Reason
from darkroom_api.training import Method
from darkroom_trainer.driver.additions import refuse_impossible, warnings_of
from darkroom_trainer.errors import TrainerError
from darkroom_trainer.families.errors import UnusableBaseError
from darkroom_trainer.inputs.base.keys import compare, in_words
from darkroom_trainer.inputs.base.prompts import prompt_warnings
from darkroom_trainer.inputs.base_model import BaseModel

FP16_OVERFLOW: Final = 65520.0
"""From here on float16 rounds to infinity."""

_HARMLESS: Final = "position_ids"
"""A left-over of older versions of transformers, in most text encoders."""


def check_base(
    base: BaseModel, spec: PersonalizationJobSpec, captions: Sequence[str] = ()
) -> list[Problem]:
    """What the user should know of a base model before a job begins on it; `captions` are its photos' prompts.

    Raises TrainerError when it does not fit its classes, or can't be published as the job asks for.
    """
    _refuse_overflow(base, spec)
    _refuse_frozen_encoder(base, spec)
    refuse_impossible(spec, base)
    try:
        return [
            *class_warnings(base),
            *warnings_of(spec, base),
            *(prompt_warnings(base, spec, captions) if base.family.reads_as_clip else ()),
        ]
    except UnusableBaseError as error:
        raise error.of(base.uri) from error


def class_warnings(base: BaseModel) -> list[Problem]:
    """The tensors that its classes don't know; raises TrainerError when they lack some.

    A sealed model was compared before it was sealed. For any other one the classes are built, which takes
    a process and some seconds, once for each configuration.
    """
    if base.sealed:
        return []
    try:
        return _compared(base, _class_shapes(base))
    except UnusableBaseError as error:
        raise error.of(base.uri) from error


def _compared(base: BaseModel, shapes: dict[str, Any]) -> list[Problem]:
    if shapes["scheduler"] is not None:
        raise UnusableBaseError(
            f"its scheduler {base.classes['scheduler']} gives no noise levels: {shapes['scheduler']}",
            f"use a scheduler of {base.family.title}, such as {base.family.scheduler}",
        )
    return [
        warning
        for component in base.family.weights
        for warning in _left_over(base, component, shapes)
    ]


def _left_over(base: BaseModel, component: str, shapes: dict[str, Any]) -> list[Problem]:
    expected = shapes[component]
    if isinstance(expected, str):
        raise UnusableBaseError(f"its {component} can't be built from its config.json: {expected}")
    misfit = compare(component, expected, base.shapes[component])
    for names, what in ((misfit.missing, "lacks"), (misfit.wrong, "has wrong shapes in")):
        if names:
            raise UnusableBaseError(
                f"its {component} {what} {in_words(names)}",
                "copy or download the weights again, or use the config.json that belongs to them",
            )
    extra = [name for name in misfit.extra if not name.endswith(_HARMLESS)]
    if not extra:
        return []
    return [
        Problem(
            "spec.baseModel.uri",
            f"its {component} has {in_words(extra)}: its class does not know that",
            "it is not trained, and published as it is",
        )
    ]


def _class_shapes(base: BaseModel) -> dict[str, Any]:
    """Shapes of the tensors of its classes, from the user's cache where they were built before."""
    names = [f"{component}/config.json" for component in base.family.weights]
    names.append("scheduler/scheduler_config.json")
    configs = [hash_file(base.folder / name).sha256 for name in names]
    versions = [version(package) for package in ("diffusers", "transformers")]
    key = json_digest([base.pipeline, configs, base.classes["scheduler"], versions])
    cached = _cache_folder() / f"{key}.json"
    with suppress(OSError, ValueError):
        found: dict[str, Any] = json.loads(cached.read_bytes())
        return found
    built = _built_shapes(base)
    with suppress(OSError):  # a home that can't be written costs the seconds again
        cached.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(cached, json.dumps(built).encode())
    return built


def _cache_folder() -> Path:
    """In the user's cache, or below the current folder for a user without a home, as in a pod."""
    home = os.environ.get("HOME") or "."
    root = os.environ.get("XDG_CACHE_HOME") or Path(home) / ".cache"
    return Path(root) / "darkroom" / "class-shapes"


def _built_shapes(base: BaseModel) -> dict[str, Any]:
    module = "darkroom_trainer.training.class_shapes"
    done = subprocess.run(
        [sys.executable, "-m", module, str(base.folder), base.classes["scheduler"]],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise UnusableBaseError(
            f"its classes can't be built: {done.stderr.strip().splitlines()[-1:] or ['no reason']}",
            "run darkroom doctor, which looks for what is not installed",
        )
    shapes: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return shapes


def _refuse_frozen_encoder(base: BaseModel, spec: PersonalizationJobSpec) -> None:
    if spec.training.encodes_prompts and not base.family.trains_text_encoders:
        raise TrainerError(Reason.SPEC_INVALID, *_said(trained_in_vain(base.family.title)))


def _said(problem: Problem) -> tuple[str, str]:
    return f"{problem.field}: {problem.message}", problem.fix


def _refuse_overflow(base: BaseModel, spec: PersonalizationJobSpec) -> None:
    if spec.output.precision is not ExportPrecision.FP16 or spec.training.method is not Method.FULL:
        return
    for component, largest in base.largest.items():
        if largest >= FP16_OVERFLOW:
            raise TrainerError(
                Reason.BASE_MODEL_UNUSABLE,
                f"spec.output.precision: FP16 holds numbers up to 65504 and the base model's {component}"
                f" has {largest:g}: it would be published as infinity",
                "set it to FP32",
            )
