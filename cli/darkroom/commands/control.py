"""`darkroom cancel`, `suspend` and `resume`: the course of a job on a cluster."""

import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from darkroom.cluster.options import ContextOption, NameArgument, NamespaceOption
from darkroom.console import complain, say
from darkroom.errors import CommandError
from darkroom.options import examples

if TYPE_CHECKING:
    from darkroom.cluster.kubectl import Kubectl
    from darkroom_api.job import PersonalizationJob

CANCEL_EXAMPLES = examples(
    "darkroom cancel rex          # says what goes and what stays, and asks",
    "darkroom cancel rex --yes    # in a script",
)
SUSPEND_EXAMPLES = examples("darkroom suspend rex")
RESUME_EXAMPLES = examples("darkroom resume rex")


def cancel(
    name: NameArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
) -> None:
    """Stop a job on a cluster and delete it.

    What it has written stays, unless its output.deletionPolicy is Delete. Photos that darkroom
    apply stored are deleted with it, unless they were to be kept or another job has them too.
    """
    from darkroom.cluster.jobs import Jobs
    from darkroom.cluster.kubectl import Kubectl
    from darkroom.cluster.states import after_cancel, deleted_since, next_step, step_of, word

    kubectl = Kubectl(context, namespace)
    jobs = Jobs(kubectl)
    job = jobs.get(name)
    if deleted_since(job) is not None:
        say(f"{name} is cancelled already; {next_step(job)}")
        return
    effects = "; ".join((after_cancel(job), *_after_photos(kubectl, job)))
    if not yes:
        if not has_terminal():
            raise typer.BadParameter("give --yes: there is no terminal to ask on")
        complain(f"{name} ({word(job).value}, step {step_of(job)}): {effects}.")
        typer.confirm("Cancel it?", abort=True, err=True)
    jobs.delete(name)
    say(f"cancelled {name}: {effects}")


def suspend(
    name: NameArgument, namespace: NamespaceOption = None, context: ContextOption = None
) -> None:
    """Pause a job on a cluster.

    It saves a checkpoint, and gives its pods and GPUs back; darkroom resume lets it go on.
    """
    from darkroom.cluster.states import after_suspend

    say(after_suspend(_set(name, namespace, context, suspended=True)))


def resume(
    name: NameArgument, namespace: NamespaceOption = None, context: ContextOption = None
) -> None:
    """Let a paused job on a cluster go on from its last checkpoint."""
    from darkroom.cluster.states import after_resume

    say(after_resume(_set(name, namespace, context, suspended=False)))


def has_terminal() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty()


def _after_photos(kubectl: "Kubectl", job: "PersonalizationJob") -> Iterator[str]:
    """What becomes of the photos; nothing where they are no ConfigMap, or none that can be read."""
    from darkroom.cluster.kubectl import KubectlError
    from darkroom.cluster.photo_store import find_photos
    from darkroom.cluster.states import photos_after_cancel

    name = job.spec.subject.images.config_map
    with suppress(KubectlError):
        if name is not None and (store := find_photos(kubectl, name)) is not None:
            yield photos_after_cancel(job, store, kubectl.context)


def _set(
    name: str, namespace: str | None, context: str | None, *, suspended: bool
) -> "PersonalizationJob":
    """The job afterwards; raises CommandError when there is nothing to change."""
    from darkroom.cluster.jobs import Jobs
    from darkroom.cluster.kubectl import Kubectl
    from darkroom.cluster.states import deleted_since, is_over, next_step, word

    jobs = Jobs(Kubectl(context, namespace))
    job = jobs.get(name)
    if deleted_since(job) is not None:
        raise CommandError(f"{name} is cancelled; {next_step(job)}")
    if is_over(job):
        raise CommandError(
            f"{name} is over ({word(job).value}); darkroom describe {name} says how it ended"
        )
    if job.spec.run_policy.suspend is suspended:
        state = "suspended already" if suspended else "not suspended"
        other = "resume" if suspended else "suspend"
        raise CommandError(f"{name} is {state}; the other way: darkroom {other} {name}")
    return jobs.suspend(name, suspended=suspended)
