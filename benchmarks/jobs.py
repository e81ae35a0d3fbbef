"""The job files of the benchmarks: DreamBooth of one subject, on this machine."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_job(
    folder: Path, name: str, base: Path, photos: str, **sections: Mapping[str, Any]
) -> Path:
    """Writes a job with one worker and returns the file; `sections` are those of the spec, by their names."""
    scale = {"workers": 1} | dict(sections.pop("scale"))
    job = {
        "apiVersion": "darkroom.dev/v1alpha1",
        "kind": "PersonalizationJob",
        "metadata": {"name": name},
        "spec": {
            "baseModel": {"uri": f"file:{base}"},
            "subject": {
                "kind": "Animal",
                "identifier": "sks",
                "classNoun": "dog",
                "images": {"uri": photos},
            },
            **sections,
            "scale": scale,
            "output": {"uri": f"file:{folder / 'models'}"},
        },
    }
    file = folder / f"{name}.yaml"
    file.write_text(json.dumps(job))  # JSON is YAML, and quotes what must be quoted
    return file
