"""`darkroom logs`: what the pods of a job's newest attempt print."""

from typing import Annotated

import typer

from darkroom.cluster.options import ContextOption, NameArgument, NamespaceOption
from darkroom.console import say
from darkroom.errors import CommandError
from darkroom.options import examples

EXAMPLES = examples(
    "darkroom logs rex",
    "darkroom logs rex -f    # follows until the attempt is over",
)

MOST_PODS = 128
"""Logs that are followed at once: a head and the 64 workers of the largest job, and room."""


def logs(
    name: NameArgument,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what is printed from now on.")
    ] = False,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
) -> None:
    """Print the logs of a job's newest attempt.

    Each line begins with its pod. The pods of an attempt go when it is over; why it ended stays in
    darkroom describe.
    """
    from darkroom.cluster.jobs import Jobs
    from darkroom.cluster.kubectl import Kubectl
    from darkroom.cluster.operators import neglect_of
    from darkroom.cluster.states import newest_attempt, next_step
    from darkroom_api.names import ATTEMPT_LABEL, JOB_LABEL

    kubectl = Kubectl(context, namespace)
    job = Jobs(kubectl).get(name)
    attempt = newest_attempt(job)
    if attempt is None:
        advice = neglect_of(job, context) or next_step(job)
        raise CommandError(f"{name} has no attempt yet; {advice}")
    selector = f"--selector={JOB_LABEL}={name},{ATTEMPT_LABEL}={attempt.name}"
    if not kubectl.get("pods", selector)["items"]:
        raise CommandError(
            f"attempt {attempt.name} has no pods now; see how it is: darkroom describe {name}"
        )
    options = ["--prefix", "--tail=-1", f"--max-log-requests={MOST_PODS}"]
    options += ["--follow"] if follow else []
    with kubectl.stream("logs", selector, *options) as lines:
        for line in lines:
            say(line.rstrip("\n"))
