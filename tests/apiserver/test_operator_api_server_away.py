"""An API server that is killed, and comes back: few lines in the log, kopf's included, and nothing is lost."""

import re

from darkroom_testing.apiserver.apiserver_world import (  # noqa: F401
    World,
    installation_fixture,
    operator_fixture,
    world_fixture,
)
from darkroom_testing.cluster.cluster import wait_for

LINE = re.compile(r"^\S+ \S+ (WARNING|ERROR|INFO) (\S+) (.*)$", re.MULTILINE)


def test_an_api_server_that_is_killed_is_told_in_four_lines_and_costs_no_job(
    world: World, operator
):
    """It begins, the lead ends, the lead begins, it ends; each job that came before or after is dealt with."""
    names = [f"job-{number}" for number in range(10)]
    for name in names:
        world.create(name)
    for name in names:
        world.ray_job(f"{name}-1")
    said = len(operator.log.read_text())
    world.cluster.stop("kube-apiserver")
    try:
        wait_for(lambda: "lease: not leading" in operator.log.read_text()[said:], "end of its lead")
        assert operator.readiness() == "standby"
        assert operator.healthy()
    finally:
        world.cluster.start("kube-apiserver")
    operator.wait("leading")
    world = World(world.cluster, world.namespace)
    for name in names:
        world.says(f"{name}-1", "Running", "RUNNING")
        world.says(f"{name}-1", "Complete", "SUCCEEDED")
    world.create("after")
    world.ray_job("after-1")
    for name in names:
        world.word("Completed", name)
    again = "access to the API server again"
    wait_for(lambda: again in operator.log.read_text(), "the end of the outage")
    lines = [match[3] for match in LINE.finditer(operator.log.read_text()[said:])]
    assert [line.partition(":")[0].partition(",")[0] for line in lines] == [
        "no access to the API server",
        "lease",
        "lease",
        again,
    ]
