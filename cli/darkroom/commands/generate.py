"""`darkroom generate`: draws a prompt with a running server, into PNG files."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from darkroom.console import complain, print_json, say
from darkroom.errors import CommandError
from darkroom.files import check_writable, explained, numbered
from darkroom.options import DEFAULT_URL, ForceOption, JsonOption, UrlOption, examples

if TYPE_CHECKING:
    from darkroom.wire import ImageOptions

EXAMPLES = examples(
    'darkroom generate "a photo of sks dog in the snow" --model rex --output dog.png',
    'darkroom generate "a photo of sks dog" --model rex -n 4 --seed 7 --output dog.png',
    "    # writes dog-1.png to dog-4.png; the same seed draws the same pictures",
)


def generate(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What to draw.")],
    output: Annotated[Path, typer.Option(help="PNG file to write.")],
    model: Annotated[
        str | None,
        typer.Option(help="Id from darkroom models list; the base model when absent."),
    ] = None,
    n: Annotated[int, typer.Option("--n", "-n", min=1, help="Number of images.")] = 1,
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT in pixels.")] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps.")] = None,
    guidance_scale: Annotated[
        float | None, typer.Option(help="How strongly the prompt is followed.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the first image.")] = None,
    negative_prompt: Annotated[str | None, typer.Option(help="What not to draw.")] = None,
    sampler: Annotated[str | None, typer.Option(help="Sampler, for example ddim.")] = None,
    url: UrlOption = DEFAULT_URL,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Draw a prompt into PNG files.

    Asks a server that darkroom serve started.
    What is not given takes the server's default. The files hold the prompt, seed and model as text.
    """
    from darkroom.client import Client

    paths = numbered(output, n)
    check_writable(paths, force=force)
    if output.suffix.lower() != ".png":
        raise CommandError(
            f"--output: {output}: pictures are PNG files, which hold how they were made; name it"
            f" {output.with_suffix('.png')}"
        )
    given = {
        "model": model,
        "n": n,
        "size": size,
        "num_inference_steps": steps,
        "guidance_scale": guidance_scale,
        "negative_prompt": negative_prompt,
        "seed": seed,
        "sampler": sampler,
    }
    options = {name: value for name, value in given.items() if value is not None}
    with Client(url) as client:
        images = client.generate(prompt, **cast("ImageOptions", options))
    for warning in images[0].warnings:
        complain(f"warning: {warning}")
    for path, image in zip(paths, images, strict=True):
        with explained(path, "written"):
            path.write_bytes(image.png)
        if as_json:
            print_json({"file": str(path), "seed": image.seed, "model": model, "prompt": prompt})
        else:
            say(f"{path} (seed {image.seed})")
