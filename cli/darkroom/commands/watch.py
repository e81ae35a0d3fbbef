"""`darkroom watch`: the jobs of a cluster, live."""

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from darkroom.cluster.options import ContextOption, NamespaceOption
from darkroom.console import complain, rich_console, say
from darkroom.errors import CommandError
from darkroom.options import examples

if TYPE_CHECKING:
    from darkroom.cluster.jobs import Change

EXAMPLES = examples(
    "darkroom watch                # all jobs of the namespace, until Ctrl-C",
    "darkroom watch -A             # all jobs of all namespaces",
    "darkroom watch rex            # one job, until it is over: exit code 0 or 1",
    "darkroom watch rex --json     # a JSON object a line",
)


def watch(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Name of a job; all when absent.")
    ] = None,
    namespace: NamespaceOption = None,
    everywhere: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="The jobs of all namespaces.")
    ] = False,
    context: ContextOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON object a line, for programs.")
    ] = False,
) -> None:
    """Show how jobs on a cluster get on.

    A table of all jobs, or the progress of one; lines where there is no terminal. With a NAME it
    ends when the job is over: with 0 when its model is published, else with 1.
    """
    from darkroom.cluster.jobs import Jobs
    from darkroom.cluster.kubectl import Kubectl
    from darkroom.cluster.operators import neglect_of
    from darkroom.cluster.watch_view import Watched, watch_view

    if everywhere and (name or namespace):
        raise CommandError("--all-namespaces shows all jobs: leave NAME and --namespace out")
    jobs = Jobs(Kubectl(context, namespace))
    if name is not None and (advice := neglect_of(jobs.get(name), context)) is not None:
        complain(f"warning: {advice}")
    what = Watched.ONE if name else Watched.EVERYWHERE if everywhere else Watched.NAMESPACE
    with (
        closing(watch_view(rich_console(), what, as_json=as_json)) as view,
        closing(jobs.follow(name, everywhere=everywhere)) as changes,
    ):
        for change in changes:
            view.show(change)
            if name is not None and _is_last(change):
                break
    _conclude(change, as_json=as_json)


def _is_last(change: "Change") -> bool:
    from darkroom.cluster.states import deleted_since, is_over

    return change.deleted or (is_over(change.job) and deleted_since(change.job) is None)


def _conclude(change: "Change", *, as_json: bool) -> None:
    """The last words about one job, and the exit code."""
    from darkroom.cluster.states import is_over, message, next_step, status_of, succeeded
    from darkroom_api.job import DeletionPolicy
    from darkroom_api.status import Reason

    job = change.job
    name, model = job.metadata.name, status_of(job).model
    removed = change.deleted and job.spec.output.deletion_policy is DeletionPolicy.DELETE
    if succeeded(job) and not removed:
        if not as_json and model is not None:
            say(f"model: {model.uri}\nnext: {Reason.COMPLETED.hint}")
        return
    if change.deleted:
        complain(f"{name} was deleted{'' if is_over(job) else ' before it was over'}")
    else:
        complain(f"{name} has failed: {message(job)}; {next_step(job)}")
    raise typer.Exit(1)
