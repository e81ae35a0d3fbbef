"""Holds a local Ray for the tests: says where it is, computes at each line of its input, ends with it."""

import sys

from darkroom_local.environment import SHORT_SPIN
from darkroom_local.ray_session import RaySession

if __name__ == "__main__":
    with RaySession(1, SHORT_SPIN) as session:
        import ray

        @ray.remote
        def answer():
            return 6 * 7

        print(session.logs.parent, ray.get_runtime_context().gcs_address, flush=True)
        for _ in sys.stdin:
            print(ray.get(answer.remote()), flush=True)
    print("ended", flush=True)
