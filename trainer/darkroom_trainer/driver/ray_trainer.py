"""Ray Train with torch, without what a run does not need: its start is most of a short training.

Ray's TorchTrainer imports torch into the driver and into its controller, and starts actors for
datasets and for placement groups that outlive a controller. Here torch is imported by the workers
alone, and a run has no datasets and a Ray, or a job of Ray's, that ends with it.
"""

import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import ray
from ray.train._internal.utils import get_address_and_port
from ray.train.backend import Backend, BackendConfig
from ray.train.constants import DEFAULT_TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S as PARTING_SECONDS
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from darkroom_local.keeper import SESSION_ENV

MEETING_FILE: Final = "workers-"

TIMEOUT_SECONDS: Final = 1800
"""Of a collective; as Ray's own."""


class Trainer(DataParallelTrainer):  # type: ignore[misc]  # Ray's classes are Any
    """Ray Train's trainer, for a worker function that brings its own data."""

    def _create_default_callbacks(self) -> list[Any]:
        unneeded = (DatasetsCallback, PlacementGroupCleanerCallback)
        made: list[Any] = super()._create_default_callbacks()
        return [one for one in made if not isinstance(one, unneeded)]


class _ProcessGroupBackend(Backend):  # type: ignore[misc]
    """Makes torch's process group in the workers, and takes it away."""

    share_cuda_visible_devices = True

    def on_start(self, worker_group: Any, backend_config: "ProcessGroup") -> None:
        """Returns when all workers have met."""
        file, master = backend_config.meeting_file, None
        if file is None:
            master = worker_group.execute_single(0, get_address_and_port)
        use_gpu = worker_group.get_resources_per_worker().get("GPU", 0) > 0
        ray.get(
            [
                worker_group.execute_single_async(
                    rank,
                    _meet,
                    master,
                    backend="nccl" if use_gpu else "gloo",
                    world_rank=rank,
                    world_size=len(worker_group),
                    init_method=file or "env://",
                    timeout_s=TIMEOUT_SECONDS,
                )
                for rank in range(len(worker_group))
            ]
        )

    def on_shutdown(self, worker_group: Any, backend_config: "ProcessGroup") -> None:
        """Gives up after some seconds: the workers' processes end in any case."""
        parting = worker_group.execute_async(_part, destroy_process_group=len(worker_group) > 1)
        ray.wait(parting, num_returns=len(parting), timeout=PARTING_SECONDS)


@dataclass(frozen=True)
class ProcessGroup(BackendConfig):  # type: ignore[misc]
    """Where the workers meet: at a file's URL, or, without one, at a port of the first."""

    meeting_file: str | None = None

    @property
    def backend_cls(self) -> type[Backend]:
        """What Ray Train starts and ends it with."""
        return _ProcessGroupBackend

    @property
    def train_func_context(self) -> Any:
        """Puts a worker on its GPU, as Ray's own does."""
        return _device_context


def of_one_machine() -> ProcessGroup:
    """The workers meet in a file of the session's private folder: torch's usual port listens to everybody."""
    file = Path(os.environ[SESSION_ENV]) / f"{MEETING_FILE}{uuid.uuid4().hex}"
    return ProcessGroup(f"file://{file}")


# What follows runs in the workers.


def _meet(master: tuple[str, int] | None, **options: Any) -> None:
    """`master` is where the workers of several machines meet; DeepSpeed names its shared memory by it, too."""
    from ray.train.torch import config

    if master is not None:
        host, port = master
        os.environ |= {"MASTER_ADDR": host, "MASTER_PORT": str(port)}
    config._set_torch_distributed_env_vars()
    config._setup_torch_process_group(**options)


def _part(destroy_process_group: bool) -> None:
    from ray.train.torch import config

    config._shutdown_torch(destroy_process_group=destroy_process_group)


def _device_context() -> Any:
    from ray.train.torch.config import TorchConfigContextManager

    return TorchConfigContextManager()
