"""A run's progress as Prometheus metrics: `darkroom train --metrics-port`."""

from types import TracebackType
from typing import Final, Self

from prometheus_client import CollectorRegistry, Gauge, start_http_server

from darkroom_api.names import METRIC_PREFIX
from darkroom_api.status import Reason
from darkroom_trainer.errors import TrainerError
from darkroom_trainer.progress.snapshot import Phase, Progress

PREFIX: Final = f"{METRIC_PREFIX}trainer_"

GAUGES: Final = {
    "step": "Optimizer steps done",
    "max_steps": "Optimizer steps in all",
    "images_per_second": "Instance and class images through the UNet in a second, over all ranks",
    "eta_seconds": "Time that the remaining steps will take",
    "learning_rate": "Learning rate of the last step",
    "grad_norm": "Norm of the last gradient before clipping",
    "loss_scale": "What FP16's losses are multiplied by",
    "skipped_steps": "Optimizer steps whose gradients FP16 could not hold: they changed nothing",
    "class_images_made": "Class images that this run generated",
    "class_images_reused": "Class images that this run needs and found in the store",
    "last_checkpoint_step": "Step of the last complete checkpoint",
}
"""Gauges that are fields of `Progress`, with their help."""


class MetricsServer:
    """Serves `/metrics` while a run goes on; a context manager."""

    def __init__(self, host: str, port: int) -> None:
        """Listens on a port of an address; raises TrainerError when it can't."""
        registry = CollectorRegistry()
        self._gauges = {
            name: Gauge(f"{PREFIX}{name}", text, registry=registry) for name, text in GAUGES.items()
        }
        self._loss = Gauge(f"{PREFIX}loss", "Loss of the last step", ["term"], registry=registry)
        self._phase = Gauge(
            f"{PREFIX}phase", "1 for what the run is doing, 0 else", ["phase"], registry=registry
        )
        try:
            self._server, self._thread = start_http_server(port, host, registry=registry)
        except OSError as error:  # also an address that is not of this machine
            raise TrainerError(
                Reason.PORT_IN_USE,
                f"--metrics-port: port {port} can't be used on {host}: {error.strerror}",
                "choose another one with --metrics-port or --host",
            ) from error

    def update(self, progress: Progress) -> None:
        """Shows a new snapshot."""
        for name, gauge in self._gauges.items():
            value = getattr(progress, name)
            if value is not None:
                gauge.set(value)
        for phase in Phase:
            self._phase.labels(phase).set(float(phase is progress.phase))
        if progress.losses is not None:
            for term, loss in progress.losses.model_dump(exclude_none=True).items():
                self._loss.labels(term).set(loss)

    def close(self) -> None:
        """Gives the port back."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
