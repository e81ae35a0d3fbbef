"""The table of causes: what Kubernetes, Ray, torch and others say, and the reason that it names."""

import re
from dataclasses import dataclass
from typing import Final

from darkroom_api.status import Reason


@dataclass(frozen=True, slots=True)
class Rule:
    """Words that name a cause."""

    reason: Reason
    pattern: re.Pattern[str]


def _rule(reason: Reason, *alternatives: str) -> Rule:
    """A rule of patterns, any of which counts."""
    return Rule(reason, re.compile("|".join(alternatives), re.IGNORECASE))


RULES: Final = (
    # What a process says of itself comes first: what else is in its log follows from it.
    _rule(
        Reason.OUT_OF_MEMORY,
        r"CUDA out of memory",
        r"CUDA error: out of memory",
        r"HIP out of memory",
        r"CUBLAS_STATUS_ALLOC_FAILED",
        r"torch\.(cuda\.)?OutOfMemoryError",
    ),
    _rule(
        Reason.LOSS_NOT_FINITE,
        r"loss is (nan|inf|not finite)",
        r"the loss of step \d+ is (nan|inf)",
        r"loss scale already at minimum",
        r"non-?finite (loss|gradient)",
    ),
    _rule(
        Reason.HOST_OUT_OF_MEMORY,
        r"OOMKilled",
        r"ray\.exceptions\.OutOfMemoryError",
        r"node running low on memory",
        r"killed due to memory pressure",
        r"low on resource: memory",
        r"DefaultCPUAllocator",
        r"\[Errno 12\]",
        r"insufficient shared memory",
        r"out of memory: killed process",
        r"^MemoryError",
    ),
    _rule(
        Reason.DISK_FULL,
        r"no space left on device",
        r"disk quota exceeded",
        r"OutOfDiskError",
        r"usage of EmptyDir volume",
        r"ephemeral local storage usage exceeds",
    ),
    # The cluster takes pods away.
    _rule(
        Reason.PREEMPTED,
        r"PreemptionByScheduler",
        r"PreemptionByKubeScheduler",
        r"preempted by",
        r"Preempted to accommodate",
        r"preempting to accommodate",
        r"EvictionByEvictionAPI",
        r"imminent node shutdown",
        r"was terminated in response to",
        r"TerminationByKubelet",
        r"Preempted in order to admit critical pod",
    ),
    _rule(
        Reason.NODE_LOST,
        r"NodeLost",
        r"DeletionByTaintManager",
        r"DeletionByPodGC",
        r"node no longer exists",
        r"unresponsive on a node",
        r"node (is|was) not ready",
        r"NodeNotReady",
        r"low on resource: (ephemeral-storage|inodes|pids)",
        r"had condition: \[(Disk|PID)Pressure\]",
        r"NodeDiedError",
        r"because its node has died",
        r"has been marked dead because the detector",
        r"raylet(\.out|\.err)?.* unexpected termination",
        r"node was terminated unexpectedly",
    ),
    # What keeps pods from starting.
    _rule(
        Reason.VOLUME_MISSING,
        r"persistentvolumeclaims? \"[^\"]+\" not found",
        r"(configmaps?|secrets?) \"[^\"]+\" not found",
        r"unbound immediate PersistentVolumeClaims",
        r"persistentvolumeclaim \"[^\"]+\" is being deleted",
        r"references non-existent (config|secret) key",
        r"couldn't find key",
    ),
    _rule(
        Reason.IMAGE_PULL_FAILED,
        r"ErrImagePull",
        r"ImagePullBackOff",
        r"ErrImageNeverPull",
        r"InvalidImageName",
        r"back-off pulling image",
        r"failed to pull (and unpack )?image",
        r"failed to resolve reference",
        r"pull access denied",
    ),
    _rule(
        Reason.GPU_FAILED,
        r"uncorrectable ECC",
        r"unspecified launch failure",
        r"illegal memory access was encountered",
        r"CUDA driver version is insufficient",
        r"no CUDA-capable device",
        r"no kernel image is available",
        r"fallen off the bus",
        r"Unable to determine the device handle",
        r"CUDA driver initialization failed",
        r"UnexpectedAdmissionError",
        r"no healthy devices present",
        r"nvidia-container-cli: .*error",
        r"NVRM: Xid",
        r"CUDA-capable device\(s\) is/are busy or unavailable",
    ),
    _rule(
        Reason.UNSCHEDULABLE,
        r"nodes are available",
        r"no nodes available to schedule pods",
        r"can(not|'t) be scheduled right now",
        r"No available node types can fulfill",
        r"didn't trigger scale-up",
        r"exceeded quota",
        r"PlacementGroupSchedulingError|placement group .*infeasible",
    ),
    # What the run was given.
    _rule(
        Reason.ACCESS_DENIED,
        r"gated repo",
        r"403 Client Error",
        r"AccessDenied",
        r"\[Errno 13\]",
        r"Unable to locate credentials",
        r"InvalidAccessKeyId",
    ),
    _rule(
        Reason.BASE_MODEL_UNUSABLE,
        r"does not match its digest",
        r"Error while deserializing header",
        r"InvalidHeaderDeserialization",
        r"size mismatch for ",
        r"Error\(s\) in loading state_dict",
    ),
    _rule(
        Reason.BASE_MODEL_UNREACHABLE,
        r"Repository Not Found for url",
        r"Revision Not Found for url",
        r"Entry Not Found for url",
        r"LocalEntryNotFoundError",
        r"couldn't connect to 'https://huggingface\.co",
        r"does not appear to have a file named",
        r"is not a local folder and is not a valid model identifier",
        r"HTTPSConnectionPool\(host='huggingface\.co'",
        r"cannot find the requested files in the (disk|local) cache",
    ),
    _rule(
        Reason.PHOTOS_UNREADABLE,
        r"cannot identify image file",
        r"image file is truncated",
        r"broken data stream when reading image file",
        r"DecompressionBombError",
    ),
    # Collateral: these often say only that somebody else went.
    _rule(
        Reason.COLLECTIVE_FAILED,
        r"NCCL (error|WARN)",
        r"nccl(System|Internal|Remote|UnhandledCuda|Invalid)\w*(Error|Usage)?",
        r"collective operation timeout",
        r"ProcessGroupNCCL.*(stuck|abort|timed? ?out)",
        r"gloo/transport",
        r"DistBackendError",
        r"DistNetworkError",
        r"DistStoreError",
        r"Timed out initializing process group",
        r"Socket Timeout",
    ),
    _rule(
        Reason.RAY_HEAD_DIED,
        r"head pod not found",
        r"head node (died|is dead|not found)",
        r"failed to (connect to|reach) (the )?GCS",
        r"unable to connect to GCS",
        r"GCS (server )?(has )?(died|is down|cannot be reached)",
        r"JobStatusCheckTimeoutExceeded",
        r"JobDeploymentStatusTransitionGracePeriodExceeded",
        r"SubmissionFailed",
        r"Job supervisor actor (died|could not be scheduled|failed to start)",
        r"JobSupervisor.*died",
        r"ray head.*(killed|died|lost)",
        r"job.* not found.*head",
        r"rpc_code: 14",
        # The driver, which is on the head, was killed: mostly by the kernel, at the head's memory limit.
        r"entrypoint command failed with exit code 137",
    ),
    _rule(
        Reason.WORKER_DIED,
        r"ActorDiedError|RayActorError",
        r"actor died unexpectedly",
        r"WorkerCrashedError",
        r"worker died or was killed",
        r"actor is (dead|temporarily unavailable)",
        r"ActorUnavailableError",
        r"worker process has died",
        r"Segmentation fault",
        r"SIGSEGV|SIGKILL|SIGBUS",
        r"exit code (-9|137|139|134)\b",
        r"terminated: Error, exit code",
        r"Worker unexpectedly exits",
    ),
)
"""Tried from the top; the first that matches names the cause."""
