"""The model card of a published model: a README.md with the metadata that Hugging Face's hub reads."""

from pathlib import Path
from typing import Any, Final

import yaml

from darkroom_api.job import PersonalizationJob, PriorMode, PriorPreservation, SubjectKind
from darkroom_api.training import Method, Training
from darkroom_api.words import counted
from darkroom_trainer.inputs.base_model import BaseModel

CARD_FILE: Final = "README.md"

_BODY: Final = """
# {name}

{opening}
{picture}
```python
from diffusers import {pipeline}

{loading}
pipeline("{instance_prompt}").images[0]
```

## How it was trained

| | |
|---|---|
| base model | `{base}`, content digest `{base_digest}` |
| instance prompt | `{instance_prompt}` |
| class prompt | `{class_prompt}` |
| class prior | {prior} |
| trained | {trained}, {steps} steps, learning rate {learning_rate}, batch {batch} |
| resolution | {resolution} |
| seed | {seed} |

`manifest.json` has the complete specification, the versions and the digest of every file.

## Limits and licence

It inherits the abilities, the biases and the licence of its base model (licence: {license}). It was
trained on a few pictures of one {what}: it may fail at poses and places that they do not
suggest.{consent}
"""

_WHOLE: Final = """\
A text-to-image model that knows one {what}: write `{instance_prompt}` to draw it. It was made from
{base} with [DreamBooth](https://arxiv.org/abs/2208.12242) by darkroom."""

_ADDED: Final = """\
{added} for {base}: write `{instance_prompt}` to draw one {what}, which `{trigger}` calls up. Made with
[DreamBooth](https://arxiv.org/abs/2208.12242) by darkroom for that base model and no other, none of whose
weights are here."""

_LOAD_WHOLE: Final = 'pipeline = {pipeline}.from_pretrained("FOLDER", use_safetensors=True)'
_LOAD_BASE: Final = 'pipeline = {pipeline}.from_pretrained("BASE", use_safetensors=True)'
_LOAD_TOKENS: Final = 'pipeline.load_textual_inversion("FOLDER")'
_LOAD_ADAPTER: Final = 'pipeline.load_lora_weights("FOLDER")'

_CONSENT: Final = """

The subject is a person. Use this model only as far as their recorded consent goes."""


def write_card(
    folder: Path, job: PersonalizationJob, base: BaseModel, *, with_contact_sheet: bool
) -> None:
    """Writes `README.md` into a model folder."""
    picture = (
        "\n![Pictures drawn after training](contact-sheet.png)\n" if with_contact_sheet else ""
    )
    facts = _facts(job, base)
    opening = _WHOLE if job.spec.training.method is Method.FULL else _ADDED
    body = _BODY.format(
        **facts,
        picture=picture,
        opening=opening.format(**facts),
        loading=_loading(job.spec.training, base.pipeline),
    )
    front = yaml.safe_dump(_front_matter(job, base), sort_keys=True, allow_unicode=True)
    (folder / CARD_FILE).write_text(f"---\n{front}---\n{body}", encoding="utf-8")


def _front_matter(job: PersonalizationJob, base: BaseModel) -> dict[str, Any]:
    uri = job.spec.base_model.uri
    tags = ["darkroom", "diffusers", "dreambooth", base.family.tag, "text-to-image"]
    matter: dict[str, Any] = {
        "library_name": "diffusers",
        "pipeline_tag": "text-to-image",
        "tags": sorted([*tags, *_method_tags(job.spec.training)]),
        "instance_prompt": job.spec.subject.instance_prompt,
    }
    if uri.startswith("hf://"):
        matter["base_model"] = uri.removeprefix("hf://").partition("@")[0]
    if base.license.identifier is not None:
        matter["license"] = base.license.identifier
    if base.license.name is not None:
        matter["license_name"] = base.license.name
    return matter


def _facts(job: PersonalizationJob, base: BaseModel) -> dict[str, Any]:
    spec = job.spec
    return {
        "name": job.metadata.name,
        "what": "style" if spec.subject.kind is SubjectKind.STYLE else "subject",
        "base": base.uri,
        "pipeline": base.pipeline,
        "base_digest": base.digest,
        "license": base.license,
        "instance_prompt": spec.subject.instance_prompt,
        "class_prompt": spec.subject.class_prompt,
        "prior": _prior_in_words(spec.prior_preservation),
        "trigger": spec.subject.identifier,
        "added": _added(spec.training),
        "trained": _trained(base, spec.training),
        "steps": spec.training.max_steps,
        "learning_rate": spec.training.learning_rate,
        "batch": spec.global_batch_size,
        "resolution": spec.training.resolution,
        "seed": spec.training.seed,
        "consent": _CONSENT if spec.subject.kind is SubjectKind.PERSON else "",
    }


def _loading(training: Training, pipeline: str) -> str:
    """The lines of Python that load what is published."""
    if training.method is Method.FULL:
        return _LOAD_WHOLE.format(pipeline=pipeline)
    lines = [_LOAD_BASE.format(pipeline=pipeline)]
    lines += [_LOAD_TOKENS] if training.added_tokens is not None else []
    lines += [_LOAD_ADAPTER] if training.adapters is not None else []
    return "\n".join(lines)


def _method_tags(training: Training) -> list[str]:
    """The hub's words for a method."""
    tags = ["lora"] if training.adapters is not None else []
    return tags + (["textual_inversion"] if training.added_tokens is not None else [])


def _added(training: Training) -> str:
    """What is published beside a base model, in words; for a whole model nothing."""
    lora, tokens = training.adapters, training.added_tokens
    words = []
    if lora is not None:
        words.append(f"A LoRA of rank {lora.rank}")
    if tokens is not None:
        words.append(f"{counted(tokens.vectors, 'token embedding')}")
    return " with ".join(words)


def _trained(base: BaseModel, training: Training) -> str:
    family = base.family
    parts = [family.denoiser_title] if training.method is not Method.TEXTUAL_INVERSION else []
    if training.train_text_encoder:
        parts.append(f"text encoder{'s' if len(family.encoders) > 1 else ''}")
    of = " and ".join(parts)
    if (lora := training.adapters) is not None:
        of = f"LoRA of {of}, rank {lora.rank}, alpha {lora.scaled_alpha}"
    if (tokens := training.added_tokens) is not None:
        of = ", ".join(filter(None, [of, counted(tokens.vectors, "new token")]))
    return of if training.ema is None else f"{of} (moving average)"


def _prior_in_words(prior: PriorPreservation) -> str:
    match prior.mode:
        case PriorMode.GENERATED_IMAGES:
            return f"{prior.num_images} pictures drawn by the base model, weight {prior.weight}"
        case PriorMode.FROZEN_TEACHER:
            return f"what the base model itself predicts, weight {prior.weight}"
        case PriorMode.DISABLED:
            return "none"
