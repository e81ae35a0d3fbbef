"""Rules over several fields of a spec: each one is a message, a CEL expression and its Python twin.

The apiserver evaluates the CEL expression, pydantic the predicate; a test holds them together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from pydantic.alias_generators import to_snake
from pydantic_core import PydanticCustomError

from darkroom_api.names import MAX_NAME_LENGTH

if TYPE_CHECKING:
    from darkroom_api.job import PersonalizationJobSpec


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule that the apiserver evaluates."""

    field: str
    """Path of the field that is blamed, below `self`."""

    message: str
    """What is wrong, a colon, and what to do."""

    cel: str
    """CEL expression; true means accepted. `self` is the object, `oldSelf` what it was before an update."""


@dataclass(frozen=True, kw_only=True)
class SpecRule(Rule):
    """One rule over `spec`, which pydantic evaluates as well."""

    holds: Callable[[PersonalizationJobSpec], bool]
    """The same in Python."""


NAME_RULES: tuple[Rule, ...] = (
    Rule(
        field="metadata.name",
        message=f"metadata.name may have at most {MAX_NAME_LENGTH} characters: shorten it",
        cel=f"size(self.metadata.name) <= {MAX_NAME_LENGTH}",
    ),
    Rule(
        field="metadata.name",
        message="metadata.name may have no point: use lower-case letters, digits and -",
        cel="!self.metadata.name.contains('.')",
    ),
)
"""Over the whole job; Kubernetes' own rules for names come first. Their twin is `ObjectMeta.name`."""


def _in_bounds(field: str, *, most: int, example: str, optional: bool = False) -> SpecRule:
    """A decimal number that is greater than 0 and has an upper bound, or is absent where it may be."""
    value, read = f"double(self.{field})", attrgetter(to_snake(field))
    cel = f"{value} > 0.0 && {value} <= {most}.0"
    return SpecRule(
        field=field,
        message=f"must be greater than 0 and at most {most}: write for example {example}",
        cel=f"!has(self.{field}) || ({cel})" if optional else cel,
        holds=lambda spec: read(spec) is None or 0.0 < float(read(spec)) <= most,
    )


SPEC_RULES: tuple[SpecRule, ...] = (
    SpecRule(
        field="subject.images",
        message="holds none or both of uri and configMap: set exactly one of them",
        cel="has(self.subject.images.uri) != has(self.subject.images.configMap)",
        holds=lambda spec: (
            (spec.subject.images.uri is None) != (spec.subject.images.config_map is None)
        ),
    ),
    SpecRule(
        field="subject.consent",
        message="a Person needs a record of consent: set consent.recordRef.name and consent.expires",
        cel="self.subject.kind != 'Person' || has(self.subject.consent)",
        holds=lambda spec: spec.subject.kind != "Person" or spec.subject.consent is not None,
    ),
    SpecRule(
        field="subject.identifier",
        message="must differ from classNoun: choose a rare token such as sks",
        # CLIP's tokenizers lower-case what they read: Dog is dog.
        cel="!self.subject.classNoun.matches('(?i)^' + self.subject.identifier + '$')",
        holds=lambda spec: spec.subject.identifier.lower() != spec.subject.class_noun.lower(),
    ),
    _in_bounds("training.learningRate", most=1, example="5e-6"),
    SpecRule(
        field="training.warmupSteps",
        message="must be fewer than maxSteps: the learning rate would never get to its height",
        cel="self.training.warmupSteps < self.training.maxSteps",
        holds=lambda spec: spec.training.warmup_steps < spec.training.max_steps,
    ),
    _in_bounds("training.maxGradNorm", most=1000, example="1.0"),
    SpecRule(
        field="training.optimizer",
        message="Prodigy finds one rate for all that it trains: leave out textEncoderLearningRate,"
        " textEncoderStopStep and newTokens.learningRate",
        cel="self.training.optimizer != 'Prodigy' || (!has(self.training.textEncoderLearningRate)"
        " && !has(self.training.textEncoderStopStep) && (!has(self.training.newTokens)"
        " || !has(self.training.newTokens.learningRate)))",
        holds=lambda spec: (
            spec.training.optimizer != "Prodigy"
            or (
                spec.training.text_encoder_learning_rate is None
                and spec.training.text_encoder_stop_step is None
                and (
                    spec.training.new_tokens is None
                    or spec.training.new_tokens.learning_rate is None
                )
            )
        ),
    ),
    SpecRule(
        field="training.optimizer",
        message="Prodigy measures whole gradients, which ZeRO shares out: set workers to 1 and zeroStage"
        " to 2 or less, or precision to FP32 and zeroStage to 0",
        cel="self.training.optimizer != 'Prodigy'"
        " || (self.scale.workers == 1 && self.scale.zeroStage < 3)"
        " || (self.scale.precision == 'FP32' && self.scale.zeroStage == 0)",
        holds=lambda spec: (
            spec.training.optimizer != "Prodigy"
            or (spec.scale.workers == 1 and spec.scale.zero_stage < 3)
            or (spec.scale.precision == "FP32" and spec.scale.zero_stage == 0)
        ),
    ),
    SpecRule(
        field="training.optimizer",
        message="AdamW8bit is not for weights in shards: set zeroStage to 2 or less",
        cel="self.training.optimizer != 'AdamW8bit' || self.scale.zeroStage < 3",
        holds=lambda spec: spec.training.optimizer != "AdamW8bit" or spec.scale.zero_stage < 3,
    ),
    SpecRule(
        field="training.ema.decay",
        message="must be greater than 0 and less than 1: write for example 0.9999",
        cel="!has(self.training.ema) || (double(self.training.ema.decay) > 0.0"
        " && double(self.training.ema.decay) < 1.0)",
        holds=lambda spec: spec.training.ema is None or 0.0 < float(spec.training.ema.decay) < 1.0,
    ),
    _in_bounds("training.snrGamma", most=100, example="5.0", optional=True),
    SpecRule(
        field="training.noiseOffset",
        message="must be at most 1: write for example 0.1",
        cel="double(self.training.noiseOffset) <= 1.0",
        holds=lambda spec: float(spec.training.noise_offset) <= 1.0,
    ),
    _in_bounds("training.textEncoderLearningRate", most=1, example="1e-6", optional=True),
    SpecRule(
        field="training.trainTextEncoder",
        message="is false: leave out textEncoderLearningRate and textEncoderStopStep, or set it to true",
        cel="self.training.trainTextEncoder || (!has(self.training.textEncoderLearningRate)"
        " && !has(self.training.textEncoderStopStep))",
        holds=lambda spec: (
            spec.training.train_text_encoder
            or (spec.training.text_encoder_learning_rate, spec.training.text_encoder_stop_step)
            == (None, None)
        ),
    ),
    SpecRule(
        field="training.trainTextEncoder",
        message="TextualInversion trains the embeddings of new tokens and no text encoder: set it to false",
        cel="self.training.method != 'TextualInversion' || !self.training.trainTextEncoder",
        holds=lambda spec: (
            spec.training.method != "TextualInversion" or not spec.training.train_text_encoder
        ),
    ),
    SpecRule(
        field="training.lora",
        message="is of another method: set method to LoRA, or leave it out",
        cel="self.training.method == 'LoRA' || !has(self.training.lora)",
        holds=lambda spec: spec.training.method == "LoRA" or spec.training.lora is None,
    ),
    SpecRule(
        field="training.newTokens",
        message="is of another method: set method to TextualInversion or LoRA, or leave it out",
        cel="self.training.method != 'Full' || !has(self.training.newTokens)",
        holds=lambda spec: spec.training.method != "Full" or spec.training.new_tokens is None,
    ),
    SpecRule(
        field="training.newTokens.learningRate",
        message="must be greater than 0 and at most 1: write for example 5e-3",
        cel="!has(self.training.newTokens) || !has(self.training.newTokens.learningRate)"
        " || (double(self.training.newTokens.learningRate) > 0.0"
        " && double(self.training.newTokens.learningRate) <= 1.0)",
        holds=lambda spec: (
            spec.training.new_tokens is None
            or spec.training.new_tokens.learning_rate is None
            or 0.0 < float(spec.training.new_tokens.learning_rate) <= 1.0
        ),
    ),
    SpecRule(
        field="subject.identifier",
        message="is a new token with this method: write it within < and >, for example <sks>",
        # Without them it would be found inside of other words, too. With Full they are refused as such.
        cel="self.training.method == 'Full'"
        " || (self.training.method == 'LoRA' && !has(self.training.newTokens))"
        " || self.subject.identifier.startsWith('<')",
        holds=lambda spec: (
            spec.training.method == "Full"
            or spec.training.added_tokens is None
            or spec.subject.identifier.startswith("<")
        ),
    ),
    SpecRule(
        field="output.kohyaKeys",
        message="are LoRA's: set training.method to LoRA, or this to false",
        cel="self.training.method == 'LoRA' || !self.output.kohyaKeys",
        holds=lambda spec: spec.training.method == "LoRA" or not spec.output.kohya_keys,
    ),
    SpecRule(
        field="priorPreservation.weight",
        message="must be at most 100: write for example 1.0",
        cel="double(self.priorPreservation.weight) <= 100.0",
        holds=lambda spec: float(spec.prior_preservation.weight) <= 100.0,
    ),
    SpecRule(
        field="priorPreservation.guidanceScale",
        message="must be between 1 and 30: write for example 7.5",
        cel="double(self.priorPreservation.guidanceScale) >= 1.0"
        " && double(self.priorPreservation.guidanceScale) <= 30.0",
        holds=lambda spec: 1.0 <= float(spec.prior_preservation.guidance_scale) <= 30.0,
    ),
    SpecRule(
        field="scale.precision",
        message="FP16 needs a GPU: set gpusPerWorker to 1, or precision to FP32 or BF16",
        cel="self.scale.precision != 'FP16' || self.scale.gpusPerWorker > 0",
        holds=lambda spec: spec.scale.precision != "FP16" or spec.scale.gpus_per_worker > 0,
    ),
    SpecRule(
        field="scale.zeroStage",
        message="3 shards the base's weights, which this method does not train: set it to 2 or less",
        # transformers' CLIP reads the shape of a weight that is then on another rank.
        cel="self.training.method == 'Full' || self.scale.zeroStage < 3",
        holds=lambda spec: spec.training.method == "Full" or spec.scale.zero_stage < 3,
    ),
    SpecRule(
        field="scale.offload",
        message="CPU offload needs sharded optimizer state: set zeroStage to 1, 2 or 3",
        cel="self.scale.offload != 'CPU' || self.scale.zeroStage >= 1",
        holds=lambda spec: spec.scale.offload != "CPU" or spec.scale.zero_stage >= 1,
    ),
)


_IMMUTABLE = "can't be changed after creation: create a new job with another name"

TRANSITION_RULES: tuple[Rule, ...] = (
    *(
        Rule(field=field, message=_IMMUTABLE, cel=f"self.{field} == oldSelf.{field}")
        for field in (
            "baseModel",
            "subject",
            "priorPreservation",
            "training",
            "scale",
            "checkpoint",
            "output.uri",
            "output.precision",
            "output.kohyaKeys",
        )
    ),
    *(
        Rule(
            field=field,
            message=_IMMUTABLE,
            cel=f"has(self.{field}) == has(oldSelf.{field})"
            f" && (!has(self.{field}) || self.{field} == oldSelf.{field})",
        )
        for field in ("validation", "pods")
    ),
)
"""Over an old and a new `spec`; their twin is `changed_fields`."""

_MUTABLE = ("runPolicy.", "output.deletionPolicy")


def check_spec(spec: PersonalizationJobSpec) -> None:
    """Raises when rules do not hold; the error's context holds all of them."""
    if broken := tuple(rule for rule in SPEC_RULES if not rule.holds(spec)):
        message = ", ".join(f"{rule.field}: {rule.message}" for rule in broken)
        raise PydanticCustomError("spec_rules", "{message}", {"message": message, "rules": broken})


def changed_fields(old: PersonalizationJobSpec, new: PersonalizationJobSpec) -> list[str]:
    """Paths of immutable fields that differ, as in `spec.training.maxSteps`, sorted."""
    before, after = _leaves(old), _leaves(new)
    differing = {path for path in before | after if before.get(path) != after.get(path)}
    return sorted(f"spec.{path}" for path in differing if not path.startswith(_MUTABLE))


def _leaves(spec: PersonalizationJobSpec) -> dict[str, Any]:
    return dict(_walk(spec.model_dump(mode="json", by_alias=True, exclude_none=True), ""))


def _walk(value: dict[str, Any], parent: str) -> Iterator[tuple[str, Any]]:
    for name, inner in value.items():
        if isinstance(inner, dict):
            yield from _walk(inner, f"{parent}{name}.")
        else:
            yield f"{parent}{name}", inner
