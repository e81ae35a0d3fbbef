"""`darkroom init`: writes a job file from flags and, on a terminal, from answers."""

import os
import re
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from darkroom.console import say
from darkroom.files import check_writable, explained
from darkroom.job_template import MINIATURE, Draft, render
from darkroom.options import ForceOption, examples

EXAMPLES = examples(
    "darkroom init my-dog.yaml              # asks what it needs",
    "darkroom init my-dog.yaml --kind Animal --class-noun dog --photos photos/rex",
    "darkroom init cup.yaml --kind Object --class-noun cup --photos photos/cup \\",
    "    --base hf://stable-diffusion-v1-5/stable-diffusion-v1-5@451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
)

Kind = Literal["Object", "Animal", "Style", "Person"]
"""`darkroom_api.job.SubjectKind` in a form that costs no import; a test holds them together."""

_URI = re.compile(r"^[a-z0-9]+:")
"""Also of an unknown scheme, which the job's own rules refuse with the known ones."""


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
        str, typer.Option(help="Base model: builtin:miniature or hf://ORG/NAME@COMMIT.")
    ] = MINIATURE,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps.")] = None,
    output: Annotated[str, typer.Option(help="Root of the model registry.")] = "pvc://models",
    consent_record: Annotated[
        str | None, typer.Option(help="ConfigMap with a Person's consent.")
    ] = None,
    consent_expires: Annotated[
        str | None, typer.Option(help="End of a Person's consent: 2027-06-30T00:00:00Z.")
    ] = None,
    force: ForceOption = False,
) -> None:
    """Write a commented job file.

    On a terminal it asks for what the flags don't give. The numbers suit the base model: a CPU for
    the miniature, one GPU for others.
    """
    check_writable([file], force=force)
    kind = kind or _ask_kind()
    class_noun = class_noun or _ask("--class-noun", "What is it, in an ordinary word (dog)?")
    photos = photos or _ask("--photos", "In which folder are its pictures?")
    if kind == "Person":
        consent_record = consent_record or _ask(
            "--consent-record", "Which ConfigMap records the person's consent?"
        )
        consent_expires = consent_expires or _ask(
            "--consent-expires", "When does it end (2027-06-30T00:00:00Z)?"
        )
    draft = Draft(
        name=name or name_of(file),
        kind=kind,
        identifier=identifier,
        class_noun=class_noun,
        images_uri=images_uri(photos, file),
        base_uri=base,
        output_uri=output,
        max_steps=steps,
        consent_record=consent_record,
        consent_expires=consent_expires,
    )
    write_job(file, render(draft))
    say(f"wrote {file}\nnext: darkroom lint {file}\n      darkroom train {file}")


def write_job(file: Path, text: str) -> None:
    """Writes a job file if it is valid; raises JobFileError or CommandError else."""
    import yaml

    from darkroom_api.load import parse_job

    parse_job(yaml.safe_load(text), source=str(file))
    with explained(file, "written"):
        file.write_text(text, encoding="utf-8")


def name_of(file: Path) -> str:
    """A job's name from its file's: lower-case letters, digits and `-`, at most 40."""
    return re.sub(r"[^a-z0-9]+", "-", file.stem.lower())[:40].strip("-") or "job"


def images_uri(photos: str, file: Path) -> str:
    """The URI of a folder of pictures, relative to the job file; a URI stays as it is."""
    if _URI.match(photos):
        return photos
    return f"file:{os.path.relpath(photos, file.parent)}"


def has_terminal() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty()


def _ask(flag: str, question: str) -> str:
    if not has_terminal():
        raise typer.BadParameter(f"give {flag}: there is no terminal to ask on")
    return str(typer.prompt(question.rstrip("?"), prompt_suffix="? "))


def _ask_kind() -> Kind:
    answers: dict[str, Kind] = {
        "object": "Object",
        "animal": "Animal",
        "style": "Style",
        "person": "Person",
    }
    while True:
        answer = _ask("--kind", "What is the subject: Object, Animal, Style or Person?").lower()
        if answer in answers:
            return answers[answer]
