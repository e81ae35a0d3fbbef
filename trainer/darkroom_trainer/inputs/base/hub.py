"""Downloads base models from the Hugging Face Hub: one commit, and of it only what is needed."""

import errno
import re
from collections.abc import Collection
from itertools import groupby
from pathlib import Path
from typing import Final

from darkroom_api.status import Reason
from darkroom_trainer.errors import TrainerError
from darkroom_trainer.inputs.base.layout import MODEL_INDEX, VARIANTS
from darkroom_trainer.inputs.base.license import CARD

HUB_SECONDS: Final = 10.0
"""How long the Hub may take to answer."""

_SHARD: Final = re.compile(r"-\d+-of-\d+|\.index")
_SUFFIX: Final = ".safetensors"
_CONFIGS: Final = (".json", "merges.txt", ".jinja")


def download(uri: str, downloads: Path) -> Path:
    """The folder of an `hf://` model; raises TrainerError when it can't be had."""
    from httpx2 import HTTPError
    from huggingface_hub import snapshot_download

    repository, _, commit = uri.removeprefix("hf://").partition("@")
    folder = downloads / repository.replace("/", "--") / commit
    try:
        files = _files_on_hub(repository, commit)
        if files is None:
            return _downloaded_before(uri, folder)
        snapshot_download(
            repository, revision=commit, local_dir=folder, allow_patterns=wanted_files(files)
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


def wanted_files(names: Collection[str]) -> list[str]:
    """The files that are worth a download: of each component's weights one variant, the plain one if it is there."""
    inside = [name for name in names if name.count("/") == 1]
    wanted = [name for name in names if name in (MODEL_INDEX, CARD)]
    for _, group in groupby(sorted(inside), key=lambda name: name.partition("/")[0]):
        files = list(group)
        weights = {name: _variant(name) for name in files if _SUFFIX in name}
        variant = next((one for one in VARIANTS if one in weights.values()), None)
        wanted += [
            name
            for name in files
            if (weights[name] == variant if name in weights else name.endswith(_CONFIGS))
        ]
    return sorted(wanted)


def _variant(name: str) -> str | None:
    """The variant in the name of weights or of their index: `fp16` of `unet/model.fp16.safetensors`."""
    bare = _SHARD.sub("", name).replace(_SUFFIX, "").removesuffix(".json")
    return bare.partition(".")[2] or None


def _downloaded_before(uri: str, folder: Path) -> Path:
    if folder.is_dir():
        return folder
    raise TrainerError(
        Reason.BASE_MODEL_UNREACHABLE,
        f"spec.baseModel.uri: {uri} is not on this machine and the Hub can't be reached",
        "connect to the internet once, or copy the model here and set file:PATH",
    )


def _files_on_hub(repository: str, commit: str) -> list[str] | None:
    """The names of a commit's files, or None where the Hub can't be reached.

    Asked once, because a download tries for half a minute. Raises HfHubHTTPError when it answers that
    the model isn't there, or not for this user.
    """
    from httpx2 import TransportError
    from huggingface_hub import HfApi
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        found = HfApi().model_info(repository, revision=commit, timeout=HUB_SECONDS)
    except (TransportError, OfflineModeIsEnabled):
        return None
    return [sibling.rfilename for sibling in found.siblings or ()]
