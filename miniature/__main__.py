"""Rebuilds the miniature from nothing: `python -m miniature build` (needs Debian's fonts-noto-color-emoji).

Every stage keeps its state in the work folder and goes on where it was stopped; what is finished there
is not made again. Two CPU cores take about an hour and a half.
"""

import argparse
import json
import os
import shutil
from pathlib import Path
from typing import Final

import torch
from diffusers import StableDiffusionPipeline
from transformers import ViTForImageClassification

from darkroom_api.artifact import ArtifactKind, ModelManifest, content_digest
from darkroom_api.integrity import hash_folder, seal
from miniature.base import encode_pool, pipeline, train_base
from miniature.classifier import processor, train_classifier
from miniature.mascot import write_mascot
from miniature.report import write_report
from miniature.tokenizer import write_tokenizer
from miniature.training import picture_pool, to_model
from miniature.vae import train_vae
from miniature.world import FONT

SEED: Final = 0
HELD_OUT_SEED: Final = 1
PICTURES: Final = 24_000
HELD_OUT: Final = 512
VAE_STEPS: Final = 1600
BASE_STEPS: Final = 2600
CLASSIFIER_STEPS: Final = 900
HERE: Final = Path(__file__).parent

EXAMPLES = """examples:
  python -m miniature build                    rebuild base/, classifier/, mascot/ and report/
  python -m miniature build --out /tmp/mini    the same, elsewhere
  python -m miniature report                   measure what is there
"""


def main() -> None:
    """Parses the arguments and runs a command."""
    parser = argparse.ArgumentParser(
        prog="python -m miniature",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=["build", "report"])
    parser.add_argument("--out", type=Path, default=HERE, help="where the folders go")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    parser.add_argument("--work", type=Path, default=cache / "darkroom" / "miniature")
    arguments = parser.parse_args()
    if not FONT.exists():
        parser.error(f"{FONT} is missing: apt-get install fonts-noto-color-emoji")
    arguments.work.mkdir(parents=True, exist_ok=True)
    if arguments.command == "build":
        build(arguments.out, arguments.work)
    report(arguments.out, arguments.work)


def build(out: Path, work: Path) -> None:
    """Trains everything and writes it below `out`."""
    pixels, captions = picture_pool(work, SEED, PICTURES)
    tokenizer = write_tokenizer(work / "tokenizer")
    vae = train_vae(pixels, work, SEED, VAE_STEPS)
    model = train_base(
        encode_pool(vae, tokenizer, pixels, captions), tokenizer, work, SEED, BASE_STEPS
    )
    drawing = pipeline(model, vae, tokenizer).to(torch.float16)
    _fresh(out / "base")
    drawing.save_pretrained(out / "base", safe_serialization=True)
    _load_in_full_precision(out / "base" / "text_encoder" / "config.json")
    _seal(out / "base", ArtifactKind.BASE_MODEL, "miniature")

    classifier = train_classifier(pixels, captions, work, SEED, CLASSIFIER_STEPS)
    _fresh(out / "classifier")
    classifier.save_pretrained(out / "classifier", safe_serialization=True)
    processor().save_pretrained(out / "classifier")
    _seal(out / "classifier", ArtifactKind.CLASSIFIER, "miniature-classifier")
    write_mascot(out / "mascot", SEED)


def report(out: Path, work: Path) -> None:
    """Measures what is below `out` and prints the figures."""
    pixels, captions = picture_pool(work, HELD_OUT_SEED, HELD_OUT)
    drawing = StableDiffusionPipeline.from_pretrained(
        out / "base", use_safetensors=True, dtype=torch.float32
    )
    drawing.set_progress_bar_config(disable=True)
    classifier = ViTForImageClassification.from_pretrained(out / "classifier", use_safetensors=True)
    figures = write_report(out / "report", drawing, classifier, to_model(pixels), captions)
    for name, value in figures.items():
        print(f"{name:28} {value}")


def _fresh(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)


def _load_in_full_precision(config: Path) -> None:
    """Has transformers load as float32 what is stored as float16, as diffusers does with its parts."""
    content = json.loads(config.read_text())
    config.write_text(json.dumps(content | {"dtype": "float32"}, indent=2) + "\n")


def _seal(folder: Path, kind: ArtifactKind, name: str) -> None:
    for weights in folder.rglob("*.safetensors"):
        weights.chmod(0o644)  # safetensors keeps it to its owner
    files = hash_folder(folder)
    digest = content_digest(files)
    manifest = ModelManifest(kind=kind, name=name, files=files, digest=digest, license="apache-2.0")
    seal(folder, manifest)


if __name__ == "__main__":
    main()
