"""Tries to use a Ray that is somebody else's: `python ray_stranger.py ADDRESS`; says what came of it."""

import sys

import ray

if __name__ == "__main__":
    try:
        ray.init(address=sys.argv[1], logging_level="critical", log_to_driver=False)
        print("attached:", ray.get(ray.remote(lambda: "my code").remote(), timeout=60))
    except Exception as error:
        print("refused:", type(error).__name__, str(error).splitlines()[0])
