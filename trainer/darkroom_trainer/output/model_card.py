"""The model card of a published model: a README.md with the metadata that Hugging Face's hub reads."""

from pathlib import Path
from typing import Any, Final

import yaml

from darkroom_api.job import PersonalizationJob, PriorMode, PriorPreservation, SubjectKind
from darkroom_trainer.inputs.base_model import BaseModel

CARD_FILE: Final = "README.md"

_BODY: Final = """
# {name}

A text-to-image model that knows one {what}: write `{instance_prompt}` to draw it. It was made from
{base} with [DreamBooth](https://arxiv.org/abs/2208.12242) by darkroom.
{picture}
```python
from diffusers import {pipeline}

pipeline = {pipeline}.from_pretrained("FOLDER", use_safetensors=True)
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

_CONSENT: Final = """

The subject is a person. Use this model only as far as their recorded consent goes."""


def write_card(
    folder: Path, job: PersonalizationJob, base: BaseModel, *, with_contact_sheet: bool
) -> None:
    """Writes `README.md` into a model folder."""
    picture = (
        "\n![Pictures drawn after training](contact-sheet.png)\n" if with_contact_sheet else ""
    )
    body = _BODY.format(**_facts(job, base), picture=picture)
    front = yaml.safe_dump(_front_matter(job, base), sort_keys=True, allow_unicode=True)
    (folder / CARD_FILE).write_text(f"---\n{front}---\n{body}", encoding="utf-8")


def _front_matter(job: PersonalizationJob, base: BaseModel) -> dict[str, Any]:
    uri = job.spec.base_model.uri
    matter: dict[str, Any] = {
        "library_name": "diffusers",
        "pipeline_tag": "text-to-image",
        "tags": sorted(["darkroom", "diffusers", "dreambooth", base.family.tag, "text-to-image"]),
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
        "trained": _trained(base, text_encoder=spec.training.train_text_encoder),
        "steps": spec.training.max_steps,
        "learning_rate": spec.training.learning_rate,
        "batch": spec.global_batch_size,
        "resolution": spec.training.resolution,
        "seed": spec.training.seed,
        "consent": _CONSENT if spec.subject.kind is SubjectKind.PERSON else "",
    }


def _trained(base: BaseModel, *, text_encoder: bool) -> str:
    family = base.family
    if not text_encoder:
        return family.denoiser_title
    return f"{family.denoiser_title} and text encoder{'s' if len(family.encoders) > 1 else ''}"


def _prior_in_words(prior: PriorPreservation) -> str:
    match prior.mode:
        case PriorMode.GENERATED_IMAGES:
            return f"{prior.num_images} pictures drawn by the base model, weight {prior.weight}"
        case PriorMode.FROZEN_TEACHER:
            return f"what the base model itself predicts, weight {prior.weight}"
        case PriorMode.DISABLED:
            return "none"
