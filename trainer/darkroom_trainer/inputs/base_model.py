"""Finds the inputs of a job on this machine and checks the base model before anything is loaded.

Imports no torch: configurations are JSON, and a safetensors header tells how many parameters it has.
"""

import errno
import json
import os
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from darkroom_api.artifact import FileEntry, content_digest
from darkroom_api.integrity import IntegrityError, hash_file, verify
from darkroom_api.job import Images
from darkroom_api.names import MANIFEST_FILE, PHOTOS_DIR_ENV
from darkroom_api.status import Reason
from darkroom_api.uris import local_path
from darkroom_trainer.errors import TrainerError
from darkroom_trainer.inputs.safetensors_files import WEIGHTS, count_in_header, weight_files

MODEL_INDEX: Final = "model_index.json"

_DIFFUSERS_SCHEDULERS: Final = frozenset(
    {
        "DDIMScheduler",
        "DDPMScheduler",
        "DPMSolverMultistepScheduler",
        "EulerAncestralDiscreteScheduler",
        "EulerDiscreteScheduler",
        "HeunDiscreteScheduler",
        "LMSDiscreteScheduler",
        "PNDMScheduler",
        "UniPCMultistepScheduler",
    }
)

REQUIRED_CLASSES: Final = MappingProxyType(
    {
        "unet": frozenset({"UNet2DConditionModel"}),
        "vae": frozenset({"AutoencoderKL"}),
        "text_encoder": frozenset({"CLIPTextModel"}),
        "tokenizer": frozenset({"CLIPTokenizer", "CLIPTokenizerFast"}),
        "scheduler": _DIFFUSERS_SCHEDULERS,
    }
)
"""Components that a base model must have, and the classes each may be of."""

OPTIONAL_CLASSES: Final = MappingProxyType(
    {
        "safety_checker": frozenset({"StableDiffusionSafetyChecker"}),
        "feature_extractor": frozenset({"CLIPImageProcessor", "CLIPFeatureExtractor"}),
        "image_encoder": frozenset({"CLIPVisionModelWithProjection"}),
    }
)

PREDICTION_TYPES: Final = ("epsilon", "v_prediction")
"""What a scheduler may let the UNet say; the first is diffusers' default."""

DOWNLOAD_PATTERNS: Final = (MODEL_INDEX, "*/*.json", "*/merges.txt", "*/*.safetensors")
SKIPPED_PATTERNS: Final = ("*.fp16.*", "*.non_ema.*", "*.bf16.*")

HUB_SECONDS: Final = 10.0
"""How long the Hub may take to answer."""

_MODEL_FILES: Final = (".json", ".txt", ".safetensors")
"""Endings of the files that count as the model's content."""


@dataclass(frozen=True, kw_only=True)
class BaseModel:
    """A Stable Diffusion model on this machine whose parts are known to be usable."""

    uri: str
    folder: Path

    digest: str
    """Digest of its content: its manifest's, or one over its components' files."""

    components: tuple[str, ...]
    """Subfolders that belong to it, sorted; the optional ones only where present."""

    num_parameters: Mapping[str, int]
    """Parameters of `unet`, `vae` and `text_encoder`."""

    copied_bytes: int
    """Size of what a published model has of it byte by byte: all but the weights that are trained or cast."""

    vae_scale_factor: int
    """Pixels along the side of one latent."""

    sample_size: int
    """Side in latents that the UNet was trained at."""

    unet_channels: int
    """Channels of the UNet's first level."""

    max_tokens: int
    """Longest prompt in tokens, with the begin and end tokens."""

    @property
    def native_resolution(self) -> int:
        """Side in pixels that the model was trained at."""
        return self.sample_size * self.vae_scale_factor


def find_images(images: Images, job_folder: Path) -> Path:
    """The folder of a job's instance images.

    Raises TrainerError when they are not on this machine.
    """
    if images.uri is None:
        if mounted := os.environ.get(PHOTOS_DIR_ENV):
            return Path(mounted)
        raise TrainerError(
            Reason.PHOTOS_UNREADABLE,
            f"spec.subject.images.configMap: ConfigMap {images.config_map} is only on a cluster",
            "for a run on this machine set spec.subject.images.uri to file:FOLDER",
        )
    return find_local("spec.subject.images.uri", images.uri, job_folder)


def find_local(field: str, uri: str, job_folder: Path) -> Path:
    """The path that a URI names on this machine; raises TrainerError that blames the field."""
    try:
        return local_path(uri, job_folder)
    except (LookupError, FileNotFoundError) as error:
        raise TrainerError(Reason.SOURCE_MISSING, f"{field}: {error}", "check the URI") from error


def find_base(uri: str, job_folder: Path, downloads: Path) -> BaseModel:
    """The base model of a URI, downloaded below `downloads` if it is on the Hugging Face Hub.

    Raises TrainerError when it can't be had, isn't a complete Stable Diffusion model, was altered, or
    has its weights only as pickles.
    """
    if uri.startswith("hf://"):
        return inspect_base(uri, _download(uri, downloads))
    return inspect_base(uri, find_local("spec.baseModel.uri", uri, job_folder))


def inspect_base(uri: str, folder: Path) -> BaseModel:
    """Checks a folder in diffusers' layout and says what it is; errors as `find_base`."""
    components = _check_components(uri, _read_json(uri, folder, MODEL_INDEX))
    for component in components:
        if not (folder / component).is_dir():
            raise _unusable(uri, f"it has no folder {component}")
        _refuse_pickles(uri, folder, component)
    num_parameters = {component: _count_parameters(uri, folder, component) for component in WEIGHTS}
    unet = _read_json(uri, folder, "unet/config.json")
    vae = _read_json(uri, folder, "vae/config.json")
    text_encoder = _read_json(uri, folder, "text_encoder/config.json")
    tokenizer = _read_json(uri, folder, "tokenizer/tokenizer_config.json")
    scheduler = _read_json(uri, folder, "scheduler/scheduler_config.json")
    predicts = scheduler.get("prediction_type", PREDICTION_TYPES[0])
    if predicts not in PREDICTION_TYPES:
        raise _unusable(
            uri, f"its scheduler predicts {predicts}, not {' or '.join(PREDICTION_TYPES)}"
        )
    positions = int(text_encoder.get("max_position_embeddings", 77))
    try:
        return BaseModel(
            uri=uri,
            folder=folder,
            digest=_digest(uri, folder, components),
            components=components,
            num_parameters=num_parameters,
            copied_bytes=_copied_bytes(folder, components),
            vae_scale_factor=2 ** (len(vae["block_out_channels"]) - 1),
            sample_size=int(unet["sample_size"]),
            unet_channels=int(unet["block_out_channels"][0]),
            max_tokens=min(int(tokenizer.get("model_max_length", positions)), positions),
        )
    except (LookupError, TypeError) as error:
        raise _unusable(uri, f"the config.json of its unet or vae is wrong: {error!r}") from error


def count_tokens(base: BaseModel, prompts: Iterable[str]) -> dict[str, int]:
    """Tokens of each prompt, with the begin and end tokens; reads the tokenizer (seconds)."""
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(base.folder / "tokenizer", local_files_only=True)
    return {prompt: len(tokenizer(prompt, verbose=False).input_ids) for prompt in prompts}


def _download(uri: str, downloads: Path) -> Path:
    from httpx2 import HTTPError
    from huggingface_hub import snapshot_download

    repository, _, commit = uri.removeprefix("hf://").partition("@")
    folder = downloads / repository.replace("/", "--") / commit
    try:
        if _hub_is_away(repository, commit):
            return _downloaded_before(uri, folder)
        snapshot_download(
            repository,
            revision=commit,
            local_dir=folder,
            allow_patterns=list(DOWNLOAD_PATTERNS),
            ignore_patterns=list(SKIPPED_PATTERNS),
        )
    except (HTTPError, OSError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise TrainerError(
                Reason.DISK_FULL,
                f"spec.baseModel.uri: the disk of {downloads} is full; {uri} is not complete there",
                "free some space and run it again: what is there is not downloaded again",
            ) from error
        raise TrainerError(
            Reason.BASE_MODEL_UNREACHABLE,
            f"spec.baseModel.uri: {uri} can't be downloaded: {' '.join(str(error).split())}",
            "check the name and the commit; for a gated model log in with `hf auth login`",
        ) from error
    return folder


def _downloaded_before(uri: str, folder: Path) -> Path:
    if folder.is_dir():
        return folder
    raise TrainerError(
        Reason.BASE_MODEL_UNREACHABLE,
        f"spec.baseModel.uri: {uri} is not on this machine and the Hub can't be reached",
        "connect to the internet once, or copy the model here and set file:PATH",
    )


def _hub_is_away(repository: str, commit: str) -> bool:
    """Whether the Hub can't be reached: asked once, because a download tries for half a minute.

    Raises HfHubHTTPError when it answers that the model isn't there, or not for this user.
    """
    from httpx2 import TransportError
    from huggingface_hub import HfApi
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        HfApi().model_info(repository, revision=commit, timeout=HUB_SECONDS)
    except (TransportError, OfflineModeIsEnabled):
        return True
    return False


def _unusable(uri: str, what: str, hint: str | None = None) -> TrainerError:
    return TrainerError(
        Reason.BASE_MODEL_UNUSABLE,
        f"spec.baseModel.uri: {uri} can't be personalised: {what}",
        hint or "use a complete Stable Diffusion model in diffusers' layout",
    )


def _read_json(uri: str, folder: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads((folder / name).read_bytes())
    except FileNotFoundError as error:
        raise _unusable(uri, f"{folder} has no {name}") from error
    except (OSError, ValueError) as error:
        raise _unusable(uri, f"{folder / name} can't be read: {error}") from error
    if not isinstance(content, dict):
        raise _unusable(uri, f"{folder / name} is not a JSON object")
    return content


def _check_components(uri: str, index: dict[str, Any]) -> tuple[str, ...]:
    """Names of the components in `model_index.json`: all that are needed, none of unknown class."""
    pipeline = index.get("_class_name")
    if pipeline != "StableDiffusionPipeline":
        raise _unusable(uri, f"{MODEL_INDEX} says {pipeline}, not StableDiffusionPipeline")
    classes = {
        name: value[1]
        for name, value in index.items()
        if isinstance(value, list) and len(value) == 2 and value[1] is not None
    }
    for name in REQUIRED_CLASSES:
        if name not in classes:
            raise _unusable(uri, f"it has no {name.replace('_', ' ')} ({MODEL_INDEX})")
    allowed = REQUIRED_CLASSES | OPTIONAL_CLASSES
    for name, class_name in classes.items():
        if class_name not in allowed.get(name, frozenset()):
            raise _unusable(uri, f"its {name} is of class {class_name}, which isn't supported")
    return tuple(sorted(classes))


def _refuse_pickles(uri: str, folder: Path, component: str) -> None:
    inside = folder / component
    if any(inside.glob("*.bin")) and not any(inside.glob("*.safetensors")):
        raise _unusable(
            uri,
            f"the weights of its {component} are only a .bin, a pickle that can run code",
            "convert it where you trust it: load it with diffusers and save it again with"
            " `pipeline.save_pretrained(FOLDER, safe_serialization=True)`",
        )


def _count_parameters(uri: str, folder: Path, component: str) -> int:
    files = weight_files(folder, component)
    if not files:
        raise _unusable(uri, f"{component} has no {WEIGHTS[component]}.safetensors")
    try:
        return sum(count_in_header(file) for file in files)
    except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
        raise _unusable(uri, f"the weights of its {component} are damaged: {error}") from error


def _copied_bytes(folder: Path, components: tuple[str, ...]) -> int:
    return sum(
        path.stat().st_size
        for component in components
        for path in (folder / component).iterdir()
        if path.suffix in _MODEL_FILES
        and not (component in WEIGHTS and path.suffix == ".safetensors")
    )


def _digest(uri: str, folder: Path, components: tuple[str, ...]) -> str:
    try:
        if (folder / MANIFEST_FILE).exists():
            return verify(folder).digest
        return content_digest(_hash_components(folder, components))
    except IntegrityError as error:
        raise _unusable(uri, str(error), "restore the files from where they came") from error


def _hash_components(folder: Path, components: tuple[str, ...]) -> dict[str, FileEntry]:
    paths = [folder / MODEL_INDEX]
    for component in components:
        paths += (path for path in (folder / component).iterdir() if path.suffix in _MODEL_FILES)
    entries = {}
    for path in sorted(paths):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise IntegrityError(folder, f"{name} is a symbolic link; copy the model with cp -rL")
        entries[name] = hash_file(path)
    return entries
