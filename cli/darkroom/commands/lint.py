"""`darkroom lint`: every problem of a job file, with its field and its fix."""

from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from darkroom.console import complain, print_json, say
from darkroom.options import JsonOption, examples

if TYPE_CHECKING:
    from darkroom_api.job import PersonalizationJob

_TRAINER = ("numpy", "transformers", "diffusers", "torch")
"""What reading a base model takes."""

EXAMPLES = examples(
    "darkroom lint job.yaml",
    "darkroom lint examples/*.yaml --json    # for an editor or CI",
)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of lint's output; a warning leaves the exit code alone."""

    file: str
    field: str
    message: str
    fix: str
    severity: str = "error"

    def __str__(self) -> str:
        where = f"{self.field}: " if self.field else ""
        mark = "warning: " if self.severity == "warning" else ""
        return f"{self.file}: {mark}{where}{self.message}; {self.fix}"


def lint(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Job files.")],
    as_json: JsonOption = False,
) -> None:
    """Say what is wrong with job files.

    Prints a line a problem: "file: field: what is wrong; what to do"; also what this version does
    not have, and a consent that ended.
    Reads a base model and the captions of photos that are on this machine, and warns when a file:
    source is not there.
    Exits with 1 when there is an error.
    """
    findings = [finding for file in files for finding in lint_file(file)]
    wrong = {finding.file for finding in findings if finding.severity == "error"}
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            complain(str(finding))
        for file in files:
            if str(file) not in wrong:
                say(f"{file}: ok")
    if wrong:
        raise typer.Exit(1)


def lint_file(file: Path) -> list[Finding]:
    """All that is wrong or doubtful in one job file."""
    from darkroom_api.load import JobFileError, load_job
    from darkroom_api.objections import objections
    from darkroom_api.times import utc_now

    try:
        job = load_job(file)
    except JobFileError as error:
        return [Finding(file=str(file), **asdict(problem)) for problem in error.problems]
    problems = [objection.problem for objection in objections(job.spec, utc_now())]
    return [
        *(Finding(file=str(file), **asdict(problem)) for problem in problems),
        *(
            Finding(file=str(file), severity="warning", **doubt)
            for doubt in _missing_sources(job, file)
        ),
        *_base_findings(job, file),
        *_photo_findings(job, file),
    ]


def _base_findings(job: "PersonalizationJob", file: Path) -> list[Finding]:
    """What is wrong or doubtful in a base model on this machine, where the trainer is installed."""
    from darkroom_api.uris import local_path

    uri = job.spec.base_model.uri
    there = uri.startswith("builtin:") or (
        uri.startswith("file:") and _exists(local_path(uri, file.parent))
    )
    if not there or not all(map(find_spec, _TRAINER)):
        return []
    from darkroom_trainer.driver.base_check import check_base
    from darkroom_trainer.errors import TrainerError
    from darkroom_trainer.inputs.base_model import find_base

    try:
        base = find_base(uri, file.resolve().parent, file.parent)
        doubts = check_base(base, job.spec)
    except TrainerError as error:
        field, _, message = error.message.partition(": ")
        return [Finding(file=str(file), field=field, message=message, fix=error.fix)]
    return [Finding(file=str(file), severity="warning", **asdict(doubt)) for doubt in doubts]


def _photo_findings(job: "PersonalizationJob", file: Path) -> list[Finding]:
    """What is wrong or doubtful in a folder of photos and its captions; no picture is opened."""
    from darkroom_api.pictures.captions import read_captions
    from darkroom_api.pictures.folder import FIELD, PhotoFolderError, list_photos
    from darkroom_api.uris import local_path

    uri = job.spec.subject.images.uri or ""
    if not uri.startswith("file:") or not _exists(folder := local_path(uri, file.parent)):
        return []
    try:
        listing = list_photos(folder)
        doubts = (*listing.warnings, *read_captions(listing).warnings)
    except PhotoFolderError as error:
        return [Finding(file=str(file), **asdict(problem)) for problem in error.problems]
    fix = "nothing to do, unless it is a mistake"
    return [
        Finding(file=str(file), severity="warning", field=FIELD, message=doubt, fix=fix)
        for doubt in doubts
    ]


def _missing_sources(job: "PersonalizationJob", file: Path) -> list[dict[str, Any]]:
    from darkroom_api.uris import local_path

    sources = {
        "spec.baseModel.uri": job.spec.base_model.uri,
        "spec.subject.images.uri": job.spec.subject.images.uri,
    }
    folders = {
        field: local_path(uri, file.parent)
        for field, uri in sources.items()
        if uri is not None and uri.startswith("file:")
    }
    return [
        {
            "field": field,
            "message": f"there is no folder {folder}",
            "fix": "create it, or correct the path, which is relative to the job file",
        }
        for field, folder in folders.items()
        if not _exists(folder)
    ]


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long
        return False
