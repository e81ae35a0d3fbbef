"""Two operators on a real apiserver: one writes, the other takes over and does nothing twice."""

import re
import signal
from pathlib import Path

from world import installation_fixture, operator_fixture, world_fixture  # noqa: F401 - fixtures


def test_only_the_leader_writes_and_the_other_takes_over(installation, operator, world):
    standby = installation.start()
    standby.wait("standby")
    world.create()
    world.ray_job()
    assert standby.readiness() == "standby"
    assert operator.stop(signal.SIGTERM) == 0
    standby.wait("leading")
    world.says("mascot-1", "Running", "RUNNING")
    world.says("mascot-1", "Complete", "SUCCEEDED")
    world.word("Completed")
    assert list(world.admin.ray_jobs(world.namespace)) == ["mascot-1"]
    assert leading(operator.log) == ["leading", "not leading"]
    assert leading(standby.log) == ["leading"]
    assert 'darkroom_api_requests_total{code="200",resource="rayjobs",verb="patch"}' not in (
        standby.metrics()
    )


def test_a_killed_leader_is_followed(installation, operator, world):
    standby = installation.start()
    standby.wait("standby")
    world.create()
    world.ray_job()
    operator.stop(signal.SIGKILL)
    standby.wait("leading")
    world.says("mascot-1", "Running", "RUNNING")
    world.says("mascot-1", "Complete", "SUCCEEDED")
    world.word("Completed")
    assert list(world.admin.ray_jobs(world.namespace)) == ["mascot-1"]


def leading(log: Path):
    """What a process said about the Lease, in order."""
    return re.findall(r"lease: (leading|not leading)", log.read_text())
