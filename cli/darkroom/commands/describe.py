"""`darkroom describe`: all that is known of a job on a cluster, in words."""

from typing import TYPE_CHECKING

from darkroom.cluster.options import ContextOption, NameArgument, NamespaceOption
from darkroom.console import print_json, print_table, say
from darkroom.options import JsonOption, examples

if TYPE_CHECKING:
    from darkroom_api.job import PersonalizationJob
    from darkroom_api.status import Attempt

EXAMPLES = examples(
    "darkroom describe rex",
    "darkroom describe rex --json    # the whole object",
)


def describe(
    name: NameArgument,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say how a job on a cluster is, and what to do next.

    Shows progress, checkpoint and model, the attempts and why they ended, and every condition.
    """
    from darkroom.cluster.jobs import Jobs
    from darkroom.cluster.kubectl import Kubectl
    from darkroom.cluster.operators import neglect_of
    from darkroom.cluster.states import conditions

    job = Jobs(Kubectl(context, namespace)).get(name)
    if as_json:
        print_json(job.model_dump(mode="json", by_alias=True, exclude_none=True))
        return
    facts = _facts(job)
    if (advice := neglect_of(job, context)) is not None:
        facts["next"] = advice
    print_table(("", ""), facts.items())
    if job.status is None:
        return
    if job.status.attempts:
        say("\nattempts")
        columns = ("  name", "steps", "began", "took", "ended with")
        print_table(columns, [_row(attempt) for attempt in job.status.attempts])
    say("\nconditions")
    print_table(("", ""), [(f"  {about}", text) for about, text in conditions(job)])


def _facts(job: "PersonalizationJob") -> dict[str, str]:
    """The summary: what stands at the top."""
    from darkroom.cluster.states import message, next_step, status_of, step_of, word

    status, why = status_of(job), message(job)
    facts = {
        "job": f"{job.metadata.name} in namespace {job.metadata.namespace}",
        "subject": f'"{job.spec.subject.instance_prompt}"',
        "status": f"{word(job).value}: {why}" if why else word(job).value,
        "next": next_step(job),
        "progress": f"step {step_of(job)}{_figures(job)}",
        "checkpoint": _checkpoint(job),
        "model": "not published",
    }
    if status.model is not None:
        size = f"{status.model.size_bytes / 1e6:.1f} MB"
        facts["model"] = f"{status.model.uri} ({size}, {status.model.digest[:12]})"
    if status.retries is not None:
        facts["retries"] = (
            f"{status.retries.infrastructure} of {job.spec.run_policy.backoff_limit} for failures,"
            f" {status.retries.preemptions} for preemptions"
        )
    if status.operator is not None:
        facts["operator"] = status.operator
    return facts


def _checkpoint(job: "PersonalizationJob") -> str:
    from darkroom.cluster.states import status_of, unsaved
    from darkroom_api.status import Reason

    checkpoint, why = status_of(job).checkpoint, unsaved(job)
    newest = f"step {checkpoint.step}, {checkpoint.uri}" if checkpoint is not None else "none"
    if why is None:
        return newest
    return f"{newest}; the newest could not be written: {why}; {Reason.CHECKPOINT_FAILED.hint}"


def _figures(job: "PersonalizationJob") -> str:
    from darkroom.cluster.states import is_over
    from darkroom.plan_view import duration

    progress = job.status.progress if job.status is not None else None
    if progress is None:
        return ""
    figures = [f"{metric.name} {metric.value}" for metric in progress.metrics]
    if progress.eta_seconds is not None and not is_over(job):
        figures.append(f"{duration(progress.eta_seconds)} left")
    return "".join(f", {figure}" for figure in figures)


def _row(attempt: "Attempt") -> tuple[str, ...]:
    from datetime import datetime

    from darkroom.cluster.states import age
    from darkroom.plan_view import duration

    end = datetime.fromisoformat(attempt.end_time) if attempt.end_time else None
    last = "" if attempt.end_step is None else attempt.end_step
    return (
        f"  {attempt.name}",
        f"{attempt.start_step} to {last}".rstrip(),
        attempt.start_time,
        duration(age(attempt.start_time, end)),
        attempt.reason.value if attempt.reason is not None else "it runs",
    )
