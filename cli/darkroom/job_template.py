"""The text of a new job file, with a remark at each field that people change."""

import json
from dataclasses import dataclass
from typing import Final

MINIATURE: Final = "builtin:miniature"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Numbers that suit a kind of base model."""

    learning_rate: str
    max_steps: int
    resolution: int
    batch_size: int
    num_images: int
    sampling_steps: int
    guidance_scale: str
    prior_weight: str
    gpus_per_worker: int
    precision: str


LAPTOP: Final = Recipe(
    learning_rate="3e-4",
    max_steps=300,
    resolution=64,
    batch_size=4,
    num_images=32,
    sampling_steps=15,
    guidance_scale="2.0",
    prior_weight="0.5",
    gpus_per_worker=0,
    precision="FP32",
)
"""For the miniature, on a laptop's CPU."""

GPU: Final = Recipe(
    learning_rate="5e-6",
    max_steps=800,
    resolution=512,
    batch_size=1,
    num_images=200,
    sampling_steps=50,
    guidance_scale="7.5",
    prior_weight="1.0",
    gpus_per_worker=1,
    precision="FP16",
)
"""For Stable Diffusion 1.x on one GPU (DreamBooth, section 4: 5e-6 and about 1000 steps)."""


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What the user decides about a new job."""

    name: str
    kind: str
    identifier: str
    class_noun: str
    images_uri: str
    base_uri: str
    output_uri: str

    max_steps: int | None = None
    """The recipe's when absent."""

    consent_record: str | None = None
    """Name of the ConfigMap with the consent; for a `Person`."""

    consent_expires: str | None = None
    """When the consent ends, RFC 3339 in UTC; for a `Person`."""


def render(draft: Draft) -> str:
    """The job file of a draft; `darkroom_api.load.parse_job` judges whether it is valid."""
    recipe = LAPTOP if draft.base_uri == MINIATURE else GPU
    steps = recipe.max_steps if draft.max_steps is None else draft.max_steps
    ordinary = f"a {draft.class_noun}"
    subject = f"{draft.identifier} {draft.class_noun}"
    elsewhere = f"{subject} on the beach"
    if draft.kind == "Style":
        subject = f"{ordinary} in the style of {draft.identifier}"
        elsewhere = f"a dog in the style of {draft.identifier}"
    return f"""\
# What each field means: docs/job-file.md. Next: darkroom lint, then darkroom train.
apiVersion: darkroom.dev/v1alpha1
kind: PersonalizationJob
metadata:
  name: {_scalar(draft.name)}  # also the name of the model
spec:
  baseModel:
    uri: {_scalar(draft.base_uri)}  # or hf://ORG/NAME@COMMIT, file:FOLDER
  subject:
    kind: {_scalar(draft.kind)}  # Object, Animal, Style or Person
    identifier: {_scalar(draft.identifier)}  # the rare word that will call up the subject
    classNoun: {_scalar(draft.class_noun)}  # the ordinary word for what it is
    images:
      uri: {_scalar(draft.images_uri)}  # 3 or more pictures; file: is relative to this file
{_consent(draft)}\
  priorPreservation:  # keeps what the ordinary word means
    mode: GeneratedImages
    weight: "{recipe.prior_weight}"
    numImages: {recipe.num_images}
    samplingSteps: {recipe.sampling_steps}
    guidanceScale: "{recipe.guidance_scale}"
  training:
    maxSteps: {steps}  # more steps: closer to the pictures, less freedom
    learningRate: "{recipe.learning_rate}"
    resolution: {recipe.resolution}  # the side that the base model was trained at
    batchSizePerWorker: {recipe.batch_size}
    seed: 42  # the same seed gives the same model
  scale:
    workers: 1
    gpusPerWorker: {recipe.gpus_per_worker}  # 0 trains on CPUs
    precision: {recipe.precision}
    zeroStage: 0  # one worker has nothing to shard; with more: 2
  checkpoint:
    everySteps: {max(1, steps // 2)}
    keep: 2
  validation:  # pictures drawn on the way, to see how it goes
    everySteps: {max(1, steps // 2)}
    prompts:
      - {_scalar(f"a photo of {subject}")}
      - {_scalar(f"a photo of {elsewhere}")}
      - {_scalar(f"a photo of {ordinary}")}
  output:
    uri: {_scalar(draft.output_uri)}  # root of the model registry; pvc://models is ./models here
"""


def _consent(draft: Draft) -> str:
    if draft.consent_record is None and draft.consent_expires is None:
        return ""
    lines = ["    consent:  # the depicted person's consent to be learnt by a model"]
    if draft.consent_record is not None:
        lines.append(f"      recordRef: {{name: {_scalar(draft.consent_record)}}}")
    if draft.consent_expires is not None:
        lines.append(f"      expires: {json.dumps(draft.consent_expires)}")
    return "\n".join(lines) + "\n"


def _scalar(text: str) -> str:
    """A string as YAML: plain where that reads back as the same string, in quotes else."""
    import yaml

    try:
        plain = text[:1].isalpha() and yaml.safe_load(text) == text and " #" not in text
    except yaml.YAMLError:
        plain = False
    return text if plain else json.dumps(text, ensure_ascii=False)
