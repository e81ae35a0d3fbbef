"""How the workers of one machine meet: in a file. torch's usual meeting point listens on every interface."""

import os
import uuid
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import torch.distributed as dist
from ray.train.torch import TorchConfig
from ray.train.torch.config import _set_torch_distributed_env_vars, _TorchBackend

from darkroom_local.keeper import SESSION_ENV

MEETING_FILE: Final = "workers-"


class FileBackend(_TorchBackend):  # type: ignore[misc]  # Ray's classes are Any
    """Ray Train's backend for torch, but for where the workers meet."""

    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        """Makes the process group, as Ray does, over a file of the session's private folder."""
        import ray

        use_gpu = worker_group.get_resources_per_worker().get("GPU", 0) > 0
        file = Path(os.environ[SESSION_ENV]) / f"{MEETING_FILE}{uuid.uuid4().hex}"
        worker_group.execute(_set_torch_distributed_env_vars)
        ray.get(
            [
                worker_group.execute_single_async(
                    number,
                    _meet,
                    backend="nccl" if use_gpu else "gloo",
                    file=str(file),
                    number=number,
                    num_workers=len(worker_group),
                    timeout_s=backend_config.timeout_s,
                )
                for number in range(len(worker_group))
            ]
        )


def _meet(backend: str, file: str, number: int, num_workers: int, timeout_s: int) -> None:
    """Runs in each worker, and returns when all are there."""
    dist.init_process_group(
        backend,
        init_method=f"file://{file}",
        rank=number,
        world_size=num_workers,
        timeout=timedelta(seconds=timeout_s),
    )


@dataclass
class FileRendezvous(TorchConfig):  # type: ignore[misc]
    """Ray's configuration of torch for a run on one machine."""

    @property
    def backend_cls(self) -> type[FileBackend]:
        """What Ray Train starts the process group with."""
        return FileBackend
