"""What a job adds to its base model: how many numbers, and what the base has no place for. Imports no torch."""

from collections.abc import Iterator
from typing import Final

from darkroom_api.job import PersonalizationJobSpec
from darkroom_api.problems import Problem
from darkroom_api.status import Reason
from darkroom_api.training import Lora, Method
from darkroom_trainer.errors import TrainerError
from darkroom_trainer.inputs.adapter_layers import (
    adapter_layers,
    adapter_parameters,
    narrowest,
)
from darkroom_trainer.inputs.base.keys import TEXT_PREFIX, WORD_EMBEDDINGS
from darkroom_trainer.inputs.base_model import BaseModel

LOW_RATE: Final = 2e-5
"""A learning rate from which on downwards adapters and new tokens hardly learn: 1e-4 and 5e-3 are usual."""

KOHYA_DENOISER: Final = "unet"
"""The denoiser for whose layers there are keys of kohya's."""


def added_parameters(spec: PersonalizationJobSpec, base: BaseModel) -> int:
    """Numbers that a job trains beside its base: of adapters, and of embeddings of new tokens."""
    lora, tokens = spec.training.adapters, spec.training.added_tokens
    count = 0
    if lora is not None:
        for component in _parts(spec, base):
            layers = adapter_layers(base.shapes[component], lora.targets)
            count += adapter_parameters(layers, lora.rank)
    if tokens is not None:
        count += tokens.vectors * sum(_widths(base))
    return count


def refuse_impossible(spec: PersonalizationJobSpec, base: BaseModel) -> None:
    """Raises TrainerError for adapters and new tokens that the base model has no place for."""
    lora = spec.training.adapters
    if lora is not None:
        for component in _parts(spec, base):
            _refuse_rank(lora, base, component)
        if spec.output.kohya_keys and base.family.denoiser != KOHYA_DENOISER:
            raise _refusal(
                "spec.output.kohyaKeys",
                f"there are none for {base.family.title}",
                "set it to false",
            )
    encoders = len(list(_widths(base)))
    if spec.training.added_tokens is not None and encoders != 1:
        raise _refusal(
            "spec.training.newTokens"
            if spec.training.method is Method.LORA
            else "spec.training.method",
            f"new tokens go into one CLIP text encoder, and {base.family.title} has {encoders} of them",
            "use method: LoRA without newTokens",
        )


def warnings_of(spec: PersonalizationJobSpec, base: BaseModel) -> list[Problem]:
    """What the user should know of an addition before it is made."""
    if spec.training.method is Method.FULL:
        return []
    found = []
    if not base.sealed:
        found.append(
            Problem(
                "spec.baseModel.uri",
                "it is not sealed, and what is trained can only be served on a sealed base model",
                "import it first with darkroom import, and train on that folder",
            )
        )
    if float(spec.training.learning_rate) <= LOW_RATE:
        usual = "1e-4" if spec.training.method is Method.LORA else "5e-3"
        found.append(
            Problem(
                "spec.training.learningRate",
                f"{spec.training.learning_rate} is for whole models, {spec.training.method} hardly"
                " learns with it",
                f"{usual} is usual",
            )
        )
    return found


def _parts(spec: PersonalizationJobSpec, base: BaseModel) -> tuple[str, ...]:
    """Components that get adapters."""
    encoders = base.family.encoders if spec.training.train_text_encoder else ()
    return (base.family.denoiser, *encoders)


def _widths(base: BaseModel) -> Iterator[int]:
    """Width of the embeddings of each CLIP text encoder."""
    for encoder in base.family.encoders:
        for name, shape in base.shapes.get(encoder, {}).items():
            if name.removeprefix(TEXT_PREFIX) == WORD_EMBEDDINGS:
                yield shape[1]


def _refuse_rank(lora: Lora, base: BaseModel, component: str) -> None:
    layers = adapter_layers(base.shapes[component], lora.targets)
    if not layers:
        raise _refusal(
            "spec.training.lora.targets",
            f"the base model's {component} has no such layers",
            "train it with method: Full",
        )
    layer, width = narrowest(layers)
    if lora.rank > width:
        raise _refusal(
            "spec.training.lora.rank",
            f"{lora.rank} is more than the {width} of {component}.{layer}, one of the layers that get"
            " an adapter",
            f"set it to {width} or less",
        )


def _refusal(field: str, message: str, fix: str) -> TrainerError:
    return TrainerError(Reason.SPEC_INVALID, f"{field}: {message}", fix)
