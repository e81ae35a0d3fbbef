"""A node that is taken away ends the attempt: the next one continues, and nobody trains on meanwhile."""

import time

import pytest
from ray.cluster_utils import Cluster
from ray.core.generated.autoscaler_pb2 import DrainNodeReason
from ray.train.v2.api.exceptions import PreemptionError
from ray.train.v2.api.preemption import PreemptionInfo

from darkroom_local.ray_session import OBJECT_STORE_BYTES
from darkroom_trainer.driver.ray_run import RayRun, cause_of
from darkroom_trainer.driver.run import UNTRAINED, RunOptions, prepare, run_prepared
from darkroom_trainer.errors import TrainerError

NOTICE_S = 0.5
"""Time from the notice to the end of the node."""


@pytest.fixture
def cluster(monkeypatch):
    """Ray on several nodes: a head that trains nothing, and one for a worker."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    head = {"num_cpus": 0, "object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    cluster.add_node(num_cpus=1, object_store_memory=OBJECT_STORE_BYTES)
    yield cluster
    cluster.shutdown()


def take_away(cluster, node):
    """Ends a node as a cloud does: a notice of preemption, and after its deadline no more power."""
    deadline_ms = int((time.time() + NOTICE_S) * 1000)
    accepted, why = cluster.head_node.get_gcs_client().drain_node(
        node.node_id,
        DrainNodeReason.DRAIN_NODE_REASON_PREEMPTION,
        "spot instance is reclaimed",
        deadline_ms,
    )
    assert accepted, why
    while time.time() * 1000 <= deadline_ms:
        time.sleep(0.05)
    cluster.remove_node(node, allow_graceful=False)


@pytest.mark.slow
def test_a_preempted_node_ends_the_attempt_and_its_checkpoints_stay(make_job, tmp_path, cluster):
    job = make_job(
        tmp_path,
        priorPreservation={"mode": "Disabled"},
        training={"maxSteps": 100_000},
        checkpoint={"everySteps": 5},
    )
    options = RunOptions(job_folder=tmp_path, work_dir=tmp_path / "work")
    prepared = prepare(job, options)
    prepared.task.run_folder.mkdir(parents=True)
    saved = None

    def preempt(progress):
        nonlocal saved
        if saved is not None:
            assert progress.phase not in UNTRAINED, "the workers began again inside the attempt"
        elif progress.last_checkpoint_step is not None:
            saved = progress.last_checkpoint_step
            (node,) = cluster.worker_nodes
            cluster.add_node(num_cpus=1, object_store_memory=OBJECT_STORE_BYTES)
            take_away(cluster, node)

    with pytest.raises(TrainerError) as caught:
        run_prepared(prepared, RayRun(address=cluster.address, log_to_driver=False), preempt)
    assert caught.value.reason == "Preempted"
    assert prepare(job, options).resumed_from >= saved


def test_a_preemption_that_ray_train_waited_for_is_told_as_one():
    info = PreemptionInfo(deadline_ms=None, preempted_node_to_ranks={"node": [0]})
    found = cause_of(PreemptionError(info, drain_timed_out=True))
    assert found.reason == "Preempted"
    assert "preempted_ranks=[0]" in found.message
