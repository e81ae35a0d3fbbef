"""What plain diffusers makes of a model's folder."""

from pathlib import Path
from typing import Any


def plain_pipeline(folder: Path) -> Any:
    """The pipeline that the folder names, from safetensors alone, without bars."""
    from diffusers import DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained(
        folder, use_safetensors=True, local_files_only=True
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
