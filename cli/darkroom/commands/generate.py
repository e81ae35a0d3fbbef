"""`darkroom generate`: draws prompts with a running server, into PNG files."""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from darkroom.console import complain, print_json, say
from darkroom.errors import CommandError
from darkroom.files import check_writable, explained, numbered
from darkroom.options import DEFAULT_URL, ForceOption, JsonOption, UrlOption, examples

if TYPE_CHECKING:
    from darkroom.client import Client
    from darkroom.prompt_file import Asked
    from darkroom.wire import GeneratedImage, ImageOptions

EXAMPLES = examples(
    'darkroom generate "a photo of sks dog in the snow" --model rex --output dog.png',
    'darkroom generate "a photo of sks dog" --model rex -n 4 --seed 7 --output dog.png',
    "    # writes dog-1.png to dog-4.png; the same seed draws the same pictures",
    "darkroom generate --prompts prompts.txt --same-noise --model rex --output dog.png",
    "    # a prompt a line; they begin with the same noise, and differ by their prompts alone",
)


def generate(
    prompt: Annotated[
        str | None, typer.Argument(metavar="PROMPT", help="What to draw; or --prompts.")
    ] = None,
    *,
    output: Annotated[Path, typer.Option(help="PNG file to write.")],
    prompts: Annotated[
        Path | None,
        typer.Option(help="File of prompts, one a line; a line may be JSON with its own options."),
    ] = None,
    same_noise: Annotated[
        bool, typer.Option("--same-noise", help="Begin each prompt with the same seed.")
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(help="Id from darkroom models list; the base model when absent."),
    ] = None,
    n: Annotated[
        int, typer.Option("--n", "-n", min=1, help="Number of images of each prompt.")
    ] = 1,
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT in pixels.")] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps.")] = None,
    guidance_scale: Annotated[
        float | None, typer.Option(help="How strongly the prompt is followed.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the first image.")] = None,
    negative_prompt: Annotated[str | None, typer.Option(help="What not to draw.")] = None,
    sampler: Annotated[
        str | None, typer.Option(help="Sampler, for example ddim or dpmsolver++_karras.")
    ] = None,
    eta: Annotated[
        float | None, typer.Option(help="Share of noise that ddim or tcd adds, 0 to 1.")
    ] = None,
    url: UrlOption = DEFAULT_URL,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Draw prompts into PNG files.

    Asks a server that darkroom serve started.
    What is not given takes the server's default. The files hold the prompt, seed and model as text.
    """
    from darkroom.client import Client

    given = {
        "model": model,
        "n": n,
        "size": size,
        "num_inference_steps": steps,
        "guidance_scale": guidance_scale,
        "negative_prompt": negative_prompt,
        "sampler": sampler,
        "eta": eta,
    }
    options = {name: value for name, value in given.items() if value is not None}
    asked = _asked(prompt, prompts, options, seed, same_noise=same_noise)
    paths = numbered(output, sum(one.n for one in asked))
    check_writable(paths, force=force)
    if output.suffix.lower() != ".png":
        raise CommandError(
            f"--output: {output}: pictures are PNG files, which hold how they were made; name it"
            f" {output.with_suffix('.png')}"
        )
    left = iter(paths)
    with Client(url) as client:
        for one in asked:
            for image in _draw(client, one):
                _write(next(left), image, one, as_json=as_json)


def _asked(
    prompt: str | None,
    prompts: Path | None,
    options: Mapping[str, Any],
    seed: int | None,
    *,
    same_noise: bool,
) -> "Sequence[Asked]":
    """The requests; raises CommandError where not exactly one of the two says what to draw."""
    from darkroom.prompt_file import Asked, read_prompts, with_seeds

    if (prompt is None) == (prompts is None):
        raise CommandError("give either a PROMPT or a file of them with --prompts")
    asked = [Asked(prompt, options)] if prompt is not None else []
    if prompts is not None:
        asked = read_prompts(prompts, options)
    if seed is None and not same_noise:
        return asked
    first = secrets.randbelow(2**32) if seed is None else seed
    return with_seeds(asked, first, same_noise=same_noise)


def _draw(client: "Client", asked: "Asked") -> "Sequence[GeneratedImage]":
    with _named(asked):
        images = client.generate(asked.prompt, **cast("ImageOptions", asked.options))
    for warning in images[0].warnings:
        complain(f"warning: {warning}" if asked.where is None else f"{asked.where}: {warning}")
    return images


@contextmanager
def _named(asked: "Asked") -> Iterator[None]:
    """Says which line of the file the server refuses."""
    from darkroom.wire import DarkroomError

    try:
        yield
    except DarkroomError as error:
        if asked.where is None or error.param is None:
            raise
        raise CommandError(f"{asked.where}: {error}") from error


def _write(path: Path, image: "GeneratedImage", asked: "Asked", *, as_json: bool) -> None:
    with explained(path, "written"):
        path.write_bytes(image.png)
    if as_json:
        made = {"seed": image.seed, "model": asked.options.get("model"), "prompt": asked.prompt}
        print_json({"file": str(path), **made})
    else:
        say(f"{path} (seed {image.seed})")
