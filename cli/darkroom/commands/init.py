"""`darkroom init`: writes a job file from flags and, on a terminal, from answers."""

import re
import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from darkroom.console import complain, say
from darkroom.files import check_writable, explained, file_uri
from darkroom.job_template import MINIATURE, render
from darkroom.options import ForceOption, examples

EXAMPLES = examples(
    "darkroom init my-dog.yaml              # asks what it needs",
    "darkroom init my-dog.yaml --kind Animal --class-noun dog --photos photos/rex",
    "darkroom init cup.yaml --kind Object --class-noun cup --photos photos/cup \\",
    "    --base hf://stable-diffusion-v1-5/stable-diffusion-v1-5@451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
)

Kind = Literal["Object", "Animal", "Style", "Person"]
"""`darkroom_api.job.SubjectKind` in a form that costs no import; a test holds them together."""


def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Job file to write.")],
    name: Annotated[
        str | None, typer.Option(help="Name of the job and model; the file's when absent.")
    ] = None,
    photos: Annotated[
        str | None, typer.Option(help="Folder of 3 or more pictures of the subject, or a URI.")
    ] = None,
    class_noun: Annotated[
        str | None, typer.Option(help="Ordinary word for what the subject is: dog.")
    ] = None,
    kind: Annotated[Kind | None, typer.Option(help="Object, Animal, Style or Person.")] = None,
    identifier: Annotated[
        str, typer.Option(help="Rare word that will stand for the subject.")
    ] = "sks",
    base: Annotated[
        str, typer.Option(help="Base model: builtin:miniature, a folder or hf://ORG/NAME@COMMIT.")
    ] = MINIATURE,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps.")] = None,
    output: Annotated[
        str, typer.Option(help="Root of the model registry: a folder or a URI.")
    ] = "pvc://models",
    consent_record: Annotated[
        str | None, typer.Option(help="ConfigMap with a Person's consent.")
    ] = None,
    consent_expires: Annotated[
        str | None, typer.Option(help="End of a Person's consent: 2027-06-30T00:00:00Z.")
    ] = None,
    force: ForceOption = False,
) -> None:
    """Write a commented job file.

    On a terminal it asks for what the flags don't give, and says what is wrong with an answer. The
    numbers suit the base model: a CPU for the miniature, one GPU for others.
    """
    check_writable([file], force=force)
    from darkroom.commands.lint import lint_file
    from darkroom.interview import complete

    given = {
        "name": name or name_of(file),
        "kind": kind,
        "identifier": identifier,
        "class_noun": class_noun,
        "images_uri": None if photos is None else file_uri(photos, file),
        "base_uri": file_uri(base, file),
        "output_uri": file_uri(output, file),
        "max_steps": steps,
        "consent_record": consent_record,
        "consent_expires": consent_expires,
    }
    answers = {field: value for field, value in given.items() if value is not None}
    draft = complete(answers, file, has_terminal=has_terminal())
    with explained(file, "written"):
        file.write_text(render(draft), encoding="utf-8")
    for finding in lint_file(file):  # folders that are not there yet
        complain(str(finding))
    quoted = shlex.quote(str(file))
    say(f"wrote {file}\nnext: darkroom lint {quoted}\n      darkroom train {quoted}")


def name_of(file: Path) -> str:
    """A job's name from its file's: lower-case letters, digits and `-`, at most 40."""
    return re.sub(r"[^a-z0-9]+", "-", file.stem.lower())[:40].strip("-") or "job"


def has_terminal() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin is not None and sys.stdin.isatty()
