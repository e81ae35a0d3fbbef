"""Whether an earlier run of a job has published its model already."""

import json

from pydantic import ValidationError

from darkroom_api.integrity import IntegrityError, read_manifest
from darkroom_api.job import PersonalizationJobSpec
from darkroom_api.registry import latest
from darkroom_trainer.driver.plan import TrainingPlan
from darkroom_trainer.output.checkpoint import numerics
from darkroom_trainer.worker_task import WorkerTask


def published_model(task: WorkerTask, plan: TrainingPlan) -> str | None:
    """Digest of the newest model of that name, when it is of this very training and all steps are done."""
    if plan.steps_left:
        return None
    owner, spec = task.job.metadata, task.job.spec
    entry = latest(task.registry_root, owner.namespace, owner.name)
    if entry is None:
        return None
    try:
        training = read_manifest(entry.folder).training
    except IntegrityError:
        return None
    if training is None or training.steps != plan.steps:
        return None
    try:
        earlier = PersonalizationJobSpec.model_validate_json(json.dumps(training.spec))
    except ValidationError:  # of another version of the API
        return None
    is_same = (numerics(earlier), earlier.output) == (numerics(spec), spec.output)
    return entry.digest if is_same else None
