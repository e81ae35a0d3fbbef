"""Loads a classifier once: whether its tensors are those of its class, and finite."""

from pathlib import Path
from typing import Any

from darkroom_trainer.families.errors import UnusableBaseError
from darkroom_trainer.inputs.base.keys import in_words
from darkroom_trainer.inputs.base.layout import weight_files
from darkroom_trainer.inputs.base.tensors import hash_and_scan, not_finite


def check_classifier(folder: Path) -> None:
    """Raises UnusableBaseError for a folder that would not classify as it was trained to."""
    _refuse_infinite(folder)
    found = _loading_info(folder)
    for key, what in (("missing_keys", "it lacks"), ("mismatched_keys", "it has wrong shapes in")):
        if names := sorted(str(one[0] if isinstance(one, tuple) else one) for one in found[key]):
            raise UnusableBaseError(
                f"{what} {in_words(names)}", "copy or download the weights again"
            )


def _loading_info(folder: Path) -> dict[str, Any]:
    """What transformers says about the names, which it has changed more than once."""
    from transformers import ViTForImageClassification

    try:
        _, info = ViTForImageClassification.from_pretrained(
            folder,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    except (OSError, ValueError, TypeError) as error:
        raise UnusableBaseError(f"it can't be loaded: {error}", "use a complete model") from error
    loaded: dict[str, Any] = info
    return loaded


def _refuse_infinite(folder: Path) -> None:
    for path in weight_files(folder, "").files:
        try:
            _, magnitudes = hash_and_scan(path)
        except (OSError, ValueError) as error:
            raise UnusableBaseError(
                f"its weights are damaged: {error}", "copy or download them again"
            ) from error
        if names := not_finite(magnitudes):
            raise UnusableBaseError(
                f"its weights are not finite ({in_words(names)})", "use intact ones"
            )
