"""`darkroom apply`: a job file, and its photos, to a cluster."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from darkroom.cluster.options import ContextOption, NamespaceOption, context_flag
from darkroom.console import complain, print_json, say
from darkroom.errors import CommandError
from darkroom.options import JsonOption, examples

if TYPE_CHECKING:
    from darkroom.cluster.kubectl import Kubectl
    from darkroom.cluster.photo_store import PhotoStore
    from darkroom.cluster.photos import Photos
    from darkroom_api.job import PersonalizationJob

EXAMPLES = examples(
    "darkroom apply job.yaml",
    "darkroom apply job.yaml --photos photos/rex    # job.yaml names images.configMap: rex-photos",
    "darkroom apply job.yaml --photos photos/rex --keep-photos    # for other jobs too",
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
    keep_photos: Annotated[
        bool, typer.Option("--keep-photos", help="Keep that ConfigMap when the job is deleted.")
    ] = False,
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
    that the job names (1 MiB in all), which is deleted with the job. Warns when no operator
    watches the job's namespace.
    """
    from darkroom.cluster.jobs import Jobs
    from darkroom.cluster.kubectl import Kubectl
    from darkroom.cluster.operators import neglect_of
    from darkroom_api.load import load_job

    if keep_photos and photos is None:
        raise CommandError("--keep-photos: give --photos DIR too")
    job = load_job(file)
    _refuse_hopeless(job, file)
    kubectl = Kubectl(context, _namespace(job, namespace, file))
    store = None
    if photos is None:
        applied = Jobs(kubectl).apply(job, force=force)
    else:
        files = _read_photos(job, photos)
        applied, store = _apply_with_photos(kubectl, job, files, force=force, keep=keep_photos)
    if (advice := neglect_of(applied, context)) is not None:
        complain(f"warning: {advice}")
    if as_json:
        print_json(applied.model_dump(mode="json", by_alias=True, exclude_none=True))
    else:
        _say_applied(applied, store, context)


def _refuse_hopeless(job: "PersonalizationJob", file: Path) -> None:
    """Raises JobFileError when a cluster can't run the job."""
    from darkroom_api.load import JobFileError
    from darkroom_api.objections import cluster_objections
    from darkroom_api.times import utc_now

    if found := cluster_objections(job.spec, utc_now()):
        raise JobFileError(str(file), tuple(objection.problem for objection in found))


def _namespace(job: "PersonalizationJob", wanted: str | None, file: Path) -> str | None:
    """That of the option or of the file; None leaves it to the kubeconfig."""
    written = job.metadata.namespace if "namespace" in job.metadata.model_fields_set else None
    if wanted is not None and written not in (None, wanted):
        raise CommandError(
            f"{file}: metadata.namespace is {written}, not {wanted}; leave out one of the two"
        )
    return wanted or written


def _read_photos(job: "PersonalizationJob", folder: Path) -> "Photos":
    from darkroom.cluster.photos import photos_for_cluster

    images = job.spec.subject.images
    if images.config_map is None:
        raise CommandError(
            f"--photos: the job takes its pictures from {images.uri};"
            " set spec.subject.images.configMap: NAME instead of uri"
        )
    photos = photos_for_cluster(folder, job.spec.training)
    for warning in photos.warnings:
        complain(f"warning: {warning}")
    return photos


def _apply_with_photos(
    kubectl: "Kubectl", job: "PersonalizationJob", photos: "Photos", *, force: bool, keep: bool
) -> tuple["PersonalizationJob", "PhotoStore"]:
    """The photos before the job, whose pods wait for them; their owner after it, since it needs one."""
    from darkroom.cluster.jobs import Jobs
    from darkroom.cluster.photo_store import set_owner, store_photos

    store = store_photos(kubectl, photos, job, force=force)
    try:
        applied = Jobs(kubectl).apply(job, force=force)
    except CommandError as error:
        raise CommandError(
            f"{error}\nConfigMap {store.name} holds the photos, but the job was not applied"
        ) from error
    try:
        # Once more: it may have gone just now, with a job of this name that was deleted before.
        store = store_photos(kubectl, photos, job, force=force)
        if store.ours:
            store = set_owner(kubectl, store, applied, owned=not keep)
    except CommandError as error:
        complain(f"warning: ConfigMap {store.name} does not go with the job: {error}")
    return applied, store


def _say_applied(
    job: "PersonalizationJob", store: "PhotoStore | None", context: str | None
) -> None:
    from darkroom.cluster.states import is_over, photos_after_cancel, word

    name, where = job.metadata.name, job.metadata.namespace
    flags = f"--namespace {where}{context_flag(context)}"
    say(f"applied {name} in namespace {where}")
    if store is not None:
        say(f"when it is deleted: {photos_after_cancel(job, store, context)}")
    if is_over(job):
        again = f"darkroom cancel {name} {flags}, then apply it again"
        say(f"next: it is over ({word(job).value}) and does not run again; to train anew: {again}")
    else:
        say(f"next: darkroom watch {name} {flags}")
