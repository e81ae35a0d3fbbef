"""`darkroom evaluate`: how well a model shows its subject, and what it kept of the class."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from darkroom.console import complain, print_json, print_table, progress_bar, quiet_libraries, say
from darkroom.errors import CommandError
from darkroom.files import explained
from darkroom.options import JsonOption, RegistryOption, examples

if TYPE_CHECKING:
    from darkroom_serving.evaluation.preparation import EvaluationRequest, Prepared
    from darkroom_serving.evaluation.run import Evaluated

EXAMPLES = examples(
    "darkroom evaluate rex --encoders dino=encoders/dinov2-small,clip=encoders/clip-vit-base-patch32",
    "darkroom evaluate rex --encoders dino=encoders/dino,clip=encoders/clip --photos photos",
    "darkroom evaluate rex --encoders dino=encoders/dino,clip=encoders/clip --gallery other-dogs",
)

ENCODERS: Final = ("dino", "clip")
"""Names in `--encoders`."""


def evaluate(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="Id of a model of the registry, or a model's folder."),
    ],
    encoders: Annotated[
        str,
        typer.Option(
            metavar="dino=DIR,clip=DIR",
            help="Folders of a Dinov2Model or ViTModel and of a CLIPModel, as transformers saves them.",
        ),
    ],
    registry: RegistryOption = Path("models"),
    base: Annotated[
        Path | None,
        typer.Option(help="Folder of the base model of an adapter; the miniature when absent."),
    ] = None,
    photos: Annotated[
        Path | None, typer.Option(help="Folder of the subject's photos; the job's when absent.")
    ] = None,
    gallery: Annotated[
        Path | None,
        typer.Option(
            help="Folder of look-alikes of its class; pictures of the class that the model draws when"
            " absent."
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(help="File with a prompt a line; the 25 of DreamBench when absent."),
    ] = None,
    images_per_prompt: Annotated[int, typer.Option(min=1, help="Pictures of each prompt.")] = 4,
    steps: Annotated[int, typer.Option(min=1, help="Denoising steps.")] = 25,
    guidance_scale: Annotated[
        float, typer.Option(min=0, max=100, help="How strongly prompts are followed.")
    ] = 4.0,
    seed: Annotated[int, typer.Option(min=0, help="Every picture's own seed follows from it.")] = 0,
    output: Annotated[Path, typer.Option(help="Folder to make.")] = Path("evaluation"),
    as_json: JsonOption = False,
) -> None:
    """Measure how well a model shows its subject.

    Draws the model as darkroom serve does, but in this process, and compares the pictures with the photos:
    DINO, CLIP-I, CLIP-T, PRES, DIV, and how well the photos are found among look-alikes.
    Writes evaluation.json, evaluation.md and contact-sheet.png into a new folder, or nothing.
    """
    folders = _encoder_folders(encoders)
    _check_new(output)
    quiet_libraries()
    from darkroom.evaluation_report import figure_rows, write
    from darkroom_serving.errors import ApiError
    from darkroom_serving.evaluation.errors import EvaluationError
    from darkroom_serving.evaluation.preparation import EvaluationRequest

    request = EvaluationRequest(
        model=model,
        registry=registry,
        base=base,
        dino=folders["dino"],
        clip=folders["clip"],
        photos=photos,
        gallery=gallery,
        prompts=prompts,
        images_per_prompt=images_per_prompt,
        steps=steps,
        guidance_scale=guidance_scale,
        seed=seed,
    )
    try:
        done = _run(request, quiet=as_json)
    except (ApiError, EvaluationError) as error:
        raise CommandError(str(error)) from error
    write(done, output)
    if as_json:
        print_json(done.evaluation.model_dump(mode="json"))
        return
    print_table(("figure", "value", "95 % interval", "meaning"), figure_rows(done.evaluation))
    say(f"written to {output}: look at {output / 'contact-sheet.png'}")


def _encoder_folders(text: str) -> dict[str, Path]:
    """The folders of `dino=DIR,clip=DIR`, in any order; raises CommandError."""
    pairs = [part.partition("=") for part in text.split(",")]
    folders = {name.strip(): Path(folder).expanduser() for name, _, folder in pairs if folder}
    if len(folders) != len(pairs) or set(folders) != set(ENCODERS):
        raise CommandError(f"--encoders: {text} does not name both; write dino=DIR,clip=DIR")
    return folders


def _check_new(output: Path) -> None:
    """Raises CommandError where the folder can't be made: it is written last, and that may be hours away."""
    if output.exists() or output.is_symlink():
        raise CommandError(f"--output: {output} exists; choose another name, or remove it")
    if not output.absolute().parent.is_dir():
        raise CommandError(f"--output: the folder of {output} does not exist; create it first")
    with explained(output, "written"):
        tempfile.TemporaryDirectory(prefix=".evaluation-", dir=output.absolute().parent).cleanup()


def _run(request: "EvaluationRequest", *, quiet: bool) -> "Evaluated":
    from darkroom_serving.evaluation.preparation import prepare
    from darkroom_serving.evaluation.run import evaluate as run

    prepared = prepare(request)
    if not quiet:
        say(_plan(prepared))
    for warning in prepared.warnings:
        complain(f"warning: {warning}")
    with _progress(prepared.number, quiet=quiet) as drawn:
        return run(prepared, drawn)


def _plan(prepared: "Prepared") -> str:
    """What will be drawn, on a line."""
    first = prepared.class_pictures[0]
    each, of_class = prepared.request.images_per_prompt, len(prepared.class_pictures)
    return (
        f"{prepared.served.model_id}: {len(prepared.prompts)} prompts x {each} and {of_class} of"
        f' "{first.prompt}" = {prepared.number} pictures of {first.width} x {first.height},'
        f" {first.steps} steps each, on {prepared.loaded.model.device.type};"
        f" {len(prepared.photos.photos)} photos"
    )


@contextmanager
def _progress(total: int, *, quiet: bool) -> Iterator[Callable[[], None]]:
    """A bar on a terminal, and after the first picture a line that says how long it will take."""
    from rich.progress import MofNCompleteColumn

    started_s = time.monotonic()
    with progress_bar(total, MofNCompleteColumn, quiet=quiet) as advance:
        count = 0

        def drawn() -> None:
            nonlocal count
            count += 1
            advance(1)
            if count == 1 and not quiet:
                seconds = time.monotonic() - started_s
                say(f"a picture takes {seconds:.1f} s: about {_long(seconds * total)}")

        yield drawn


def _long(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
