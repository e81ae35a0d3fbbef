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

ALWAYS = {("forced delete", "worker", "training")}
"""Cases that stand in every run; the others take turns."""

PROVEN = {
    ("delete", "worker", "training"),
    ("delete", "head", "training"),
    ("forced delete", "head", "training"),
    ("eviction", "worker", "training"),
    ("eviction", "head", "training"),
    ("drain", "worker", "training"),
    ("drain", "head", "training"),
    ("taint", "node", "training"),
    ("memory limit", "worker", "training"),
    ("memory limit", "head", "training"),
    ("kill", "worker", "training"),
    ("kill", "head", "training"),
    ("shim's kill", "worker", "training"),
    ("shim's kill", "head", "training"),
    ("kubelet's restart", "node", "training"),
    ("containerd's restart", "node", "training"),
    ("full disk", "node", "training"),
}
"""Cases that have passed, and take turns; the others run by name and in `make test-exhaustive`."""

pytestmark = pytest.mark.timeout(900)


def cases():
    for phase in PHASES:
        for disturbance in DISTURBANCES:
            for role in disturbance.roles:
                name = f"{disturbance.name} of {role} during {phase.name}".replace(" ", "-")
                marks = marks_of((disturbance.name, role, phase.name))
                yield pytest.param(disturbance, role, phase, id=name, marks=marks)


def marks_of(case):
    if case in ALWAYS:
        return ()
    return pytest.mark.exhaustive if case in PROVEN else UNPROVEN


@pytest.mark.parametrize(("disturbance", "role", "phase"), cases())
def test_a_disturbed_job_loses_nothing_and_says_what_happened(
    place, undisturbed, disturbance, role, phase
):
    digest, class_images = undisturbed
    fresh = phase.name == "class images"
    with place(None if fresh else class_images) as (job, volume):
        run = volume.run(job.name)
        with Watch(run) as watch:
            disturb(job, volume, disturbance, role, phase)
            told = job.words()
            finish(job)
        told += job.words()
        assert not watch.losses, f"checkpoints were lost: {watch.checkpoints}"
        assert run.verified_digest() == job.status["model"]["digest"] == digest
        limit = 1 if disturbance.graceful else EVERY_STEPS
        assert watch.done_again <= limit, watch.resumes
        *ends, last = [one["reason"] for one in job.attempts]
        assert last == "Completed"
        assert set(ends) <= disturbance.reasons, told
        assert not ends or re.search(disturbance.words, told), told


def disturb(job, volume, disturbance, role, phase):
    """Strikes while the run is in a phase; returns when all of it is over, and taken back."""
    with held(job, volume, phase) as hold, disturbance.strike(job, role):
        hold.release()
        wait_for(lambda: disturbance.has_struck(job), f"effect of {disturbance.name}", 200, 1)


def finish(job):
    """The way to the model; a job that a full disk has ended is applied again, as its hint says."""
    over = wait_for(lambda: job.condition()["status"] != "Unknown" and job.word, "end", 400, 1)
    if over == "DiskFull":
        job.apply_again()
        job.succeed(400)
