"""Shows what a run will do, before it does it."""

from typing import TYPE_CHECKING, Any, Final

from rich.table import Table

from darkroom_api.job import PriorMode
from darkroom_api.words import counted

if TYPE_CHECKING:
    from darkroom_trainer.driver.run import Prepared

SHOWN_CAPTIONS: Final = 20
"""Most prompts of photos that the plan shows; `--json` has all."""


def plan_table(prepared: "Prepared") -> Table:
    """The plan as a table of two columns."""
    job = prepared.task.job
    table = Table(title=f"Plan of {job.metadata.name}", title_justify="left", show_header=False)
    table.add_column(style="bold", overflow="fold")
    table.add_column(overflow="fold")
    for name, value in _facts(prepared).items():
        table.add_row(name, value)
    return table


def plan_json(prepared: "Prepared") -> dict[str, Any]:
    """The plan for a program."""
    plan = prepared.plan
    return {
        "license": prepared.task.base.license.declared,
        "photos": list(plan.photos),
        "captions": dict(plan.captions),
        "repeats": dict(plan.repeats),
        "buckets": [
            {
                "width": bucket.size[0],
                "height": bucket.size[1],
                "photos": list(bucket.photos),
                "most_lost": round(bucket.most_lost, 3),
            }
            for bucket in plan.buckets
        ],
        "quarantined": [{"name": bad.name, "reason": bad.reason} for bad in plan.quarantined],
        "steps": plan.steps,
        "steps_left": plan.steps_left,
        "world_size": plan.world_size,
        "global_batch_size": plan.global_batch_size,
        "zero_stage": plan.zero_stage,
        "precision": plan.precision.value,
        "device": plan.device,
        "method": prepared.task.job.spec.training.method.value,
        "trained_parameters": plan.trained_parameters,
        "class_images": plan.class_images,
        "class_images_to_make": plan.class_images_to_make,
        "predicted_peak_memory_bytes": plan.predicted_peak_memory_bytes,
        "class_image_bytes": plan.class_image_bytes,
        "checkpoint_bytes": plan.checkpoint_bytes,
        "checkpoints_more": plan.checkpoints_more,
        "model_bytes": plan.model_bytes,
        "estimated_seconds": round(plan.estimated_seconds, 1),
        "resumed_from": prepared.resumed_from,
        "published": prepared.published,
        "registry": str(prepared.task.registry_root),
        "run_folder": str(prepared.task.run_folder),
        "warnings": list(prepared.warnings),
    }


def duration(seconds: float) -> str:
    """A duration in words of at most two parts: `40 s`, `3 min 20 s`, `2 h 5 min`."""
    minutes, rest_s = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest_s} s"
    hours, rest_min = divmod(minutes, 60)
    if hours == 0:
        return f"{minutes} min {rest_s} s" if rest_s else f"{minutes} min"
    return f"{hours} h {rest_min} min" if rest_min else f"{hours} h"


def _facts(prepared: "Prepared") -> dict[str, str]:
    from darkroom_trainer.driver.sizes import in_words

    plan, task = prepared.plan, prepared.task
    subject = task.job.spec.subject
    facts = {
        "subject": f'"{subject.instance_prompt}"',
        "base model": f"{task.base.uri} ({task.base.digest[:12]})",
        "licence": str(task.base.license),
        "photos": _photos(prepared),
        "class images": _class_images(prepared),
        "trained": f"{task.job.spec.training.method}, {plan.trained_parameters:,} numbers",
        "steps": _steps(prepared),
        "workers": f"{plan.world_size} on {plan.device}, {plan.precision.value},"
        f" ZeRO stage {plan.zero_stage}",
        "memory": f"about {plan.predicted_peak_memory_bytes / 2**30:.1f} GiB a worker",
        "time": f"very roughly {duration(plan.estimated_seconds)}",
        "checkpoints": f"{task.run_folder} ({in_words(plan.checkpoint_bytes)} each)",
        "model goes to": f"{task.registry_root} ({in_words(plan.model_bytes)})",
    }
    if prepared.published is not None:
        facts["already published"] = f"{prepared.published}: there is nothing left to train"
    if prepared.warnings:
        facts["mind"] = "\n".join(f"- {warning}" for warning in prepared.warnings)
    return facts


def _photos(prepared: "Prepared") -> str:
    plan = prepared.plan
    lines = [f"{len(plan.photos)} kept, {len(plan.quarantined)} set aside"]
    if plan.captions:
        lines[0] += f"; {len(plan.captions)} with words of their own:"
    for prompt in dict.fromkeys(plan.captions.values()):
        names = [name for name in plan.captions if plan.captions[name] == prompt]
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        lines.append(f'- {names[0]}{more}: "{prompt}"')
    shown = lines[: 1 + SHOWN_CAPTIONS]
    if len(lines) > len(shown):
        shown.append(f"- and {len(lines) - len(shown)} more")
    if plan.repeats:
        repeated = sum(plan.repeats.values()) + len(plan.photos) - len(plan.repeats)
        shown.append(f"drawn by their repeats, {repeated} in a round")
    return "\n".join([*shown, *_buckets(prepared)])


def _buckets(prepared: "Prepared") -> list[str]:
    return [
        f"{bucket.size[0]} x {bucket.size[1]} pixels: {counted(len(bucket.photos), 'photo')},"
        f" cropped by {bucket.most_lost:.0%} at most"
        for bucket in prepared.plan.buckets
    ]


def _class_images(prepared: "Prepared") -> str:
    plan, prior = prepared.plan, prepared.task.job.spec.prior_preservation
    if not plan.class_images:
        if prior.mode is PriorMode.FROZEN_TEACHER:
            return "none: a frozen copy of the base model says what to keep"
        return "none: no prior preservation"
    reused = plan.class_images - plan.class_images_to_make
    prompt = prepared.task.job.spec.subject.class_prompt
    return f'{plan.class_images_to_make} to make, {reused} to reuse ("{prompt}")'


def _steps(prepared: "Prepared") -> str:
    plan = prepared.plan
    images = f"{plan.steps} of {counted(plan.global_batch_size, 'photo')} each"
    if plan.class_images:
        images += f" and {counted(plan.global_batch_size, 'class image')}"
    if prepared.resumed_from is not None:
        images += f"; {plan.steps_left} left, from step {prepared.resumed_from} on"
    return images
