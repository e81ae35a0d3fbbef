"""Takes a cluster down when the process that it belongs to has ended, even by SIGKILL.

A cluster on its way up belongs to the process that starts it; when it is ready, to its owner, or
to nobody. `python -m darkroom_testing.cluster.watchdog NAME PID`.
"""

import os
import select
import sys

from darkroom_testing.cluster.lifecycle import down, is_orphan
from darkroom_testing.cluster.state import State


def wait_for_end(pid: int, state: State) -> None:
    """Waits until the process ends, or the cluster is gone."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    while not poller.poll(1000) and state.exists():
        pass
    os.close(descriptor)


def main() -> None:
    """Waits, first for the one who starts the cluster, then for the owner."""
    name, starter = sys.argv[1:]
    state = State(name)
    wait_for_end(int(starter), state)
    if state.ready and (owner := state.owner):
        wait_for_end(owner.pid, state)
    if is_orphan(state) or (state.exists() and not state.ready):
        down(name)


if __name__ == "__main__":
    main()
