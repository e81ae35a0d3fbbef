"""`darkroom demo`: one job from its file to pictures over HTTP, in some minutes on two cores."""

import io
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from darkroom.commands import train as train_command
from darkroom.commands.lint import lint
from darkroom.console import say
from darkroom.errors import CommandError
from darkroom.options import examples
from darkroom_api.names import VOLUMES_ENV

if TYPE_CHECKING:
    from PIL import Image

    from darkroom.client import Client
    from darkroom.contact_sheet import Row
    from darkroom.wire import GeneratedImage
    from darkroom_api.job import PersonalizationJob

EXAMPLES = examples(
    "darkroom demo    # writes demo/contact-sheet.png",
)

PICTURES: Final = 5
"""Pictures in a row."""

GUIDANCE: Final = 3.0
"""Guidance scale that suits the miniature."""

STEPS: Final = 16
"""Denoising steps of each picture."""

SEED: Final = 7

READY_SECONDS: Final = 120.0
"""Longest wait for the server, which started with the training."""


@dataclass(frozen=True)
class DemoPaths:
    """Where the demo's files are, in a checkout."""

    checkout: Path

    @property
    def job(self) -> Path:
        """The job that is trained."""
        return self.checkout / "examples" / "01-mascot.yaml"

    @property
    def folder(self) -> Path:
        """Everything that the demo writes."""
        return self.checkout / "demo"

    @property
    def registry(self) -> Path:
        """Where the job's output, pvc://models, points."""
        return self.folder / "models"

    @property
    def sheet(self) -> Path:
        """The result."""
        return self.folder / "contact-sheet.png"


def demo() -> None:
    """Train, serve and draw an example.

    Trains examples/01-mascot.yaml, serves it, draws it over HTTP and classifies a picture.
    Works in a checkout of the repository, without a GPU. Writes demo/contact-sheet.png.
    """
    from darkroom_api.load import load_job

    started_s = time.monotonic()
    paths = DemoPaths(Path(__file__).resolve().parents[3])
    if not paths.job.is_file():
        raise CommandError(f"{paths.job} does not exist; run darkroom demo from a git checkout")
    _clear(paths)
    say(f"$ darkroom lint {_relative(paths.job)}")
    lint([paths.job])
    _run(load_job(paths.job), paths)
    say(
        f"\nIt took {time.monotonic() - started_s:.0f} s. Look at {_relative(paths.sheet)}, then type:"
    )
    registry = _relative(paths.registry)
    say(f"  darkroom serve --registry {registry}")
    say('  darkroom generate "a photo of sks dog in the snow" --model mascot --output dog.png')
    say("  darkroom init my-dog.yaml    # for a subject of your own")


def _clear(paths: DemoPaths) -> None:
    """A fresh start, so that nothing is reused."""
    from darkroom_local.environment import SHORT_SPIN, SPIN_ENV

    for folder in (paths.folder / "work", paths.registry):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    os.environ[VOLUMES_ENV] = str(paths.folder)
    # A server and a training share the cores: neither may take the machine for its own.
    os.environ.setdefault(SPIN_ENV, SHORT_SPIN)


def _run(job: "PersonalizationJob", paths: DemoPaths) -> None:
    from darkroom.client import Client
    from darkroom.contact_sheet import compose
    from darkroom.server_process import ServerProcess

    # The server starts beside the training: both spend seconds on imports.
    with ServerProcess(paths.registry, paths.folder / "serve.log") as server:
        say(f"$ darkroom serve --registry {_relative(paths.registry)} &")
        say(f"$ darkroom train {_relative(paths.job)}")
        train_command.train(paths.job, work_dir=paths.folder / "work")
        server.wait(READY_SECONDS, server.is_ready)
        with Client(server.url) as client:
            name = job.metadata.name
            server.wait(READY_SECONDS, lambda: name in client.models())
            rows = list(_draw(client, job, paths))
            _classify(client, rows)
    title = f"darkroom: {job.spec.subject.instance_prompt}"
    compose(title, rows).save(paths.sheet)


def _draw(client: "Client", job: "PersonalizationJob", paths: DemoPaths) -> Iterator["Row"]:
    from darkroom.contact_sheet import Row

    subject, name = job.spec.subject, job.metadata.name
    yield Row(label="The photos that it learns from", pictures=_photos(job, paths.job.parent))
    base = client.models()[0]
    drawings = [
        (base, subject.instance_prompt, "the base model, which has never seen it"),
        (name, subject.instance_prompt, "personalised"),
        (name, f"{subject.instance_prompt} on the beach", "personalised"),
        (name, f"{subject.instance_prompt} in the snow", "personalised"),
        (name, subject.class_prompt, "personalised, and it still knows other dogs"),
    ]
    for model, prompt, remark in drawings:
        say(f'$ darkroom generate "{prompt}" --model {model}')
        images = client.generate(
            prompt,
            model=model,
            n=PICTURES,
            size=f"{job.spec.training.resolution}x{job.spec.training.resolution}",
            seed=SEED,
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
        )
        yield Row(label=f'"{prompt}": {remark}', pictures=[_opened(image) for image in images])


def _photos(job: "PersonalizationJob", job_folder: Path) -> list["Image.Image"]:
    from PIL import Image

    from darkroom_trainer.inputs.photos import load_photos
    from darkroom_trainer.inputs.sources import find_images

    folder = find_images(job.spec.subject.images, job_folder)
    photos = load_photos(folder, job.spec.training.resolution).photos
    return [Image.fromarray(photo.pixels) for photo in photos[: PICTURES + 1]]


def _opened(image: "GeneratedImage") -> "Image.Image":
    from PIL import Image

    return Image.open(io.BytesIO(image.png), formats=("PNG",))


def _classify(client: "Client", rows: list["Row"]) -> None:
    buffer = io.BytesIO()
    rows[-1].pictures[0].save(
        buffer, format="PNG"
    )  # an ordinary dog: the classifier knows no other
    best = client.classify(buffer.getvalue(), top_k=3)
    labels = ", ".join(f"{one.label} {one.score:.0%}" for one in best)
    say(f"$ darkroom classify picture.png\n{labels}")


def _relative(path: Path) -> str:
    return os.path.relpath(path)
