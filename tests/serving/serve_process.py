"""Runs a server for the tests: `python serve_process.py REGISTRY PORT METRICS_PORT BASE CLASSIFIER`."""

import sys
from pathlib import Path

from darkroom_serving.run import serve
from darkroom_serving.settings import ServingSettings

HEAVY = ("torch", "diffusers", "transformers")


def on_ready(url):
    heavy = [name for name in HEAVY if name in sys.modules]
    print(f"ready {url} {heavy}", flush=True)


if __name__ == "__main__":
    registry, port, metrics_port, base, classifier = sys.argv[1:]
    serve(
        ServingSettings(
            registry=Path(registry),
            port=int(port),
            metrics_port=int(metrics_port),
            base=Path(base),
            classifier=Path(classifier),
        ),
        on_ready,
    )
    print("ended", flush=True)
