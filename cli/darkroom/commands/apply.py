"""`darkroom apply`: a job file, and its photos, to a cluster."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from darkroom.cluster.options import ContextOption, NamespaceOption
from darkroom.console import print_json, say
from darkroom.errors import CommandError
from darkroom.options import JsonOption, examples

if TYPE_CHECKING:
    from darkroom.cluster.kubectl import Kubectl
    from darkroom_api.job import PersonalizationJob

EXAMPLES = examples(
    "darkroom apply job.yaml",
    "darkroom apply job.yaml --photos photos/rex    # job.yaml names images.configMap: rex-photos",
    "darkroom apply job.yaml --namespace team-a",
)


def apply(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Job file.")],
    photos: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder of pictures for the ConfigMap of subject.images.configMap."
        ),
    ] = None,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Take over fields, and replace photos, that others have set."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Create or update a job on a cluster.

    Checks the file first, as lint does, and that a cluster can read what it names. With --photos
    the pictures are checked, made as small as the training uses them, and put into the ConfigMap
    that the job names (1 MiB in all).
    """
    from darkroom.cluster.jobs import Jobs
    from darkroom.cluster.kubectl import Kubectl
    from darkroom_api.load import load_job

    job = load_job(file)
    check_uris(job, file)
    kubectl = Kubectl(context, _namespace(job, namespace, file))
    if photos is not None:
        _send_photos(kubectl, job, photos, force=force)
    applied = Jobs(kubectl).apply(job, force=force)
    if as_json:
        print_json(applied.model_dump(mode="json", by_alias=True, exclude_none=True))
        return
    name, where = applied.metadata.name, applied.metadata.namespace
    say(f"applied {name} in namespace {where}\nnext: darkroom watch {name} --namespace {where}")


def check_uris(job: "PersonalizationJob", file: Path) -> None:
    """Raises JobFileError when a cluster can't read or write what the job names."""
    from darkroom_api.load import JobFileError
    from darkroom_api.problems import Problem

    spec = job.spec
    local = {
        "spec.baseModel.uri": (spec.base_model.uri, "use hf://ORG/NAME@COMMIT or pvc://CLAIM/path"),
        "spec.subject.images.uri": (
            spec.subject.images.uri or "",
            "replace it by configMap: NAME and give --photos DIR, or use pvc://CLAIM/path",
        ),
    }
    problems = [
        Problem(field, f"{uri} is a folder of this machine", fix)
        for field, (uri, fix) in local.items()
        if uri.startswith("file:")
    ]
    if not spec.output.uri.startswith("pvc://"):
        message = f"{spec.output.uri} can't hold a cluster's checkpoints"
        problems.append(Problem("spec.output.uri", message, "use pvc://CLAIM/path"))
    if problems:
        raise JobFileError(str(file), tuple(problems))


def _namespace(job: "PersonalizationJob", wanted: str | None, file: Path) -> str | None:
    """That of the option or of the file; None leaves it to the kubeconfig."""
    written = job.metadata.namespace if "namespace" in job.metadata.model_fields_set else None
    if wanted is not None and written not in (None, wanted):
        raise CommandError(
            f"{file}: metadata.namespace is {written}, not {wanted}; leave out one of the two"
        )
    return wanted or written


def _send_photos(
    kubectl: "Kubectl", job: "PersonalizationJob", folder: Path, *, force: bool
) -> None:
    from darkroom.cluster.photos import read_photos, store_photos

    name = job.spec.subject.images.config_map
    if name is None:
        raise CommandError(
            f"--photos: the job takes its pictures from {job.spec.subject.images.uri};"
            " set spec.subject.images.configMap: NAME instead of uri"
        )
    photos = read_photos(folder, job.spec.training.resolution)
    store_photos(kubectl, photos, name, force=force)
