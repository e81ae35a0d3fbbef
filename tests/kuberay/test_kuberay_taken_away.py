"""What people take away from a job at work: its namespace, its permission to run, its objects one by one."""

import re

import pytest

from darkroom_testing.cluster.cluster import wait_for
from darkroom_testing.kuberay.faults import PHASES, held
from darkroom_testing.kuberay.volume import Watch

TRAINING = next(phase for phase in PHASES if phase.name == "training")
exhaustive = pytest.mark.exhaustive

pytestmark = pytest.mark.timeout(900)


@exhaustive
@pytest.mark.parametrize("policy", ["Retain", "Delete"])
def test_a_namespace_goes_away_with_a_job_at_work(node_cluster, place, undisturbed, policy):
    with place(undisturbed[1], deletionPolicy=policy) as (job, volume):
        with held(job, volume, TRAINING):
            node_cluster.kubectl("delete", "namespace", job.namespace, "--wait=false")
        wait_for(lambda: node_cluster.get("namespace", job.namespace) is None, "end", 150, 1)


@exhaustive
@pytest.mark.parametrize("policy", ["Retain", "Delete"])
def test_a_namespace_goes_away_with_a_job_that_starts(node_cluster, place, policy):
    with place(deletionPolicy=policy) as (job, _):
        wait_for(job.pods, "pods", 60)
        node_cluster.kubectl("delete", "namespace", job.namespace, "--wait=false")
        wait_for(lambda: node_cluster.get("namespace", job.namespace) is None, "end", 150, 1)


@exhaustive
def test_a_job_that_is_suspended_while_it_trains_saves_and_goes_at_once(place, undisturbed):
    digest, class_images = undisturbed
    with place(class_images) as (job, volume):
        with Watch(volume.run(job.name)) as watch:
            with held(job, volume, TRAINING):
                job.suspend(wanted=True)
            job.wait_for_word("Suspended", seconds=60)  # half of the grace period
            assert not job.pods()
            job.suspend(wanted=False)
            job.succeed(400)
        assert [one["reason"] for one in job.attempts] == ["Suspended", "Completed"]
        assert job.attempts[1]["startStep"] == job.attempts[0]["endStep"]
        assert not watch.losses
        assert watch.done_again == 0
        assert volume.run(job.name).verified_digest() == digest


def has_pods(job):
    return bool(job.pods())


def has_a_head_that_runs(job):
    return any(one["status"]["phase"] == "Running" for one in job.pods("darkroom.dev/role=head"))


@exhaustive
@pytest.mark.parametrize("moment", [has_pods, has_a_head_that_runs])
def test_a_job_that_is_suspended_before_it_trains_goes_at_once(place, moment):
    with place() as (job, _):
        wait_for(lambda: moment(job), "pods", 100)
        job.suspend(wanted=True)
        job.wait_for_word("Suspended", seconds=60)  # half of the grace period
        assert not job.pods()


@exhaustive
@pytest.mark.parametrize("moment", [has_pods, has_a_head_that_runs])
def test_a_job_that_is_deleted_before_it_trains_goes_at_once(place, moment):
    with place() as (job, _):
        wait_for(lambda: moment(job), "pods", 100)
        job.cluster.kubectl("delete", "pj", job.name, job.here, "--wait=false")
        wait_for(lambda: not job.products(), "end of what the job had", 60, 1)


def delete(job, kind, name):
    job.cluster.kubectl("delete", kind, name, job.here, "--wait=false")


def delete_ray_cluster(job):
    (found,) = job.cluster.items("rayclusters", job.here)
    delete(job, "raycluster", found["metadata"]["name"])


def delete_head_services(job):
    """KubeRay has one of the RayCluster, and one of the RayJob."""
    for found in job.cluster.items("services", job.here):
        delete(job, "service", found["metadata"]["name"])


def delete_job_file(job):
    delete(job, "configmap", f"{job.name}-darkroom")


def delete_service_account(job):
    delete(job, "serviceaccount", "default")


@pytest.mark.parametrize(
    ("take", "then_killed"),
    [
        pytest.param(delete_ray_cluster, False, marks=exhaustive),
        pytest.param(delete_head_services, False, marks=exhaustive),
        pytest.param(delete_job_file, False, marks=exhaustive),
        pytest.param(delete_job_file, True, marks=exhaustive),
        pytest.param(delete_service_account, True, marks=exhaustive),
    ],
)
def test_a_job_whose_object_somebody_deletes_goes_on_and_loses_nothing(
    place, undisturbed, take, then_killed
):
    digest, class_images = undisturbed
    with place(class_images) as (job, volume):
        with Watch(volume.run(job.name)) as watch:
            with held(job, volume, TRAINING):
                take(job)
                if then_killed:  # the next attempt needs it
                    kill_worker(job)
            job.succeed(400)
        assert not watch.losses
        assert volume.run(job.name).verified_digest() == digest


def kill_worker(job):
    now = ("--force", "--grace-period=0", "--wait=false")
    job.cluster.kubectl("delete", "pod", job.pod("worker"), job.here, *now)


@exhaustive
def test_a_job_whose_claim_somebody_deletes_says_so_and_goes_on_when_it_is_back(place, undisturbed):
    digest, class_images = undisturbed
    with place(class_images) as (job, volume):
        with Watch(volume.run(job.name)) as watch:
            with held(job, volume, TRAINING):
                delete(job, "pvc", "models")
                kill_worker(job)
            job.wait_for_word("VolumeMissing", seconds=200)
            assert re.search('"models"', job.condition()["message"])
            here = ("pvc", "models", job.here)
            wait_for(lambda: job.cluster.get(*here) is None, "end of the claim", 200, 1)
            volume.claim_again()
            job.succeed(400)
        assert not watch.losses
        assert volume.run(job.name).verified_digest() == digest
