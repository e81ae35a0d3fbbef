"""What a cluster does to a job at work, by its own means, at each part of a run: nothing is lost.

Every case is a job of seconds with a volume of its own, which is watched from the node all the time: a
verified checkpoint that is not the newest any more, a step that is done again without need, and a model
that is not the undisturbed run's are failures, and so is a status that does not say what happened.
"""

import re

import pytest

from darkroom_testing.cluster.cluster import wait_for
from darkroom_testing.kuberay.faults import DISTURBANCES, EVERY_STEPS, PHASES, held
from darkroom_testing.kuberay.volume import Watch
from darkroom_testing.rotation import UNPROVEN

TRAINING = tuple(phase for phase in PHASES if phase.name == "training")

OTHERS = tuple(phase for phase in PHASES if phase.name != "training")

ALWAYS = ("forced delete", "worker")
"""What stands in every run, in training; the others take turns."""

PROVEN: set[tuple[str, str]] = set()
"""Cases that have passed at every part of a run, and take turns so; the others have in training alone.

A full disk may end the job, and is struck in one part at a time.
"""

pytestmark = pytest.mark.timeout(1200)


def cases():
    """Each means against each role: at every part of one job's run, and in training."""
    for disturbance in DISTURBANCES:
        for role in disturbance.roles:
            case = (disturbance.name, role)
            name = f"{disturbance.name} of {role}".replace(" ", "-")
            marks = pytest.mark.exhaustive if case in PROVEN else UNPROVEN
            parts = [PHASES] if disturbance.name != "full disk" else [(one,) for one in OTHERS]
            for phases in parts:
                where = "every-part" if phases == PHASES else phases[0].name.replace(" ", "-")
                yield pytest.param(disturbance, role, phases, id=f"{name}-in-{where}", marks=marks)
            if case == ALWAYS:
                yield pytest.param(disturbance, role, TRAINING, id=f"{name}-in-training")
            elif case not in PROVEN:
                marks = pytest.mark.exhaustive
                yield pytest.param(
                    disturbance, role, TRAINING, id=f"{name}-in-training", marks=marks
                )


@pytest.mark.parametrize(("disturbance", "role", "phases"), cases())
def test_a_disturbed_job_loses_nothing_and_says_what_happened(
    place, undisturbed, disturbance, role, phases
):
    digest, class_images = undisturbed
    fresh = any(phase.name == "class images" for phase in phases)
    with place(None if fresh else class_images) as (job, volume):
        run = volume.run(job.name)
        with Watch(run) as watch:
            for phase in phases:
                disturb(job, volume, disturbance, role, phase)
                is_told(job, disturbance)
            finish(job)
        assert not watch.losses, f"checkpoints were lost: {watch.checkpoints}"
        assert run.verified_digest() == job.status["model"]["digest"] == digest
        limit = 1 if disturbance.graceful else EVERY_STEPS
        assert watch.done_again <= limit, watch.resumes
        *ends, last = [one["reason"] for one in job.attempts]
        assert last == "Completed"
        assert set(ends) <= disturbance.reasons


def disturb(job, volume, disturbance, role, phase):
    """Strikes while the run is in a phase; returns when all of it is over, and taken back."""
    with held(job, volume, phase) as hold:
        job.forget_events()
        attempt = job.attempts[-1]["name"]
        with disturbance.strike(job, role):
            hold.release()
            wait_for(
                lambda: disturbance.has_struck(job, attempt),
                f"effect of {disturbance.name}",
                200,
                1,
            )


def is_told(job, disturbance):
    """In the cluster's words, unless the run had all but ended and ends well."""
    if disturbance.words:
        wait_for(lambda: succeeded(job) or re.search(disturbance.words, job.words()), "words", 200)


def succeeded(job):
    return job.condition()["status"] == "True"


def finish(job):
    """The way to the model; a job that a full disk has ended is applied again, as its hint says."""
    over = wait_for(lambda: job.condition()["status"] != "Unknown" and job.word, "end", 400, 1)
    if over == "DiskFull":
        job.apply_again()
        job.succeed(400)
