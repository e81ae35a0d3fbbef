"""`darkroom import`: a base model or a classifier from elsewhere, into a sealed folder."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from darkroom.console import complain, print_json, progress_bar, quiet_libraries, say
from darkroom.errors import CommandError
from darkroom.options import JsonOption, examples

if TYPE_CHECKING:
    from darkroom_trainer.importing.bring import Imported, ImportPlan

EXAMPLES = examples(
    "darkroom import ~/models/sd15 sd15",
    "darkroom import ~/.cache/huggingface/hub/models--org--name sd15",
    "darkroom import dreamlike.safetensors dreamlike --config-from bases/sd15",
    "darkroom import old.ckpt old --config-from bases/sd15 --allow-pickle",
    "darkroom import ~/models/vit-pets pets    # for darkroom serve --classifier bases/pets",
    "darkroom import ~/models/sd15 sd15 --dry-run",
)


def import_model(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="Folder, or .safetensors or .ckpt file.")
    ],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the folder to make.")],
    output: Annotated[Path, typer.Option(help="Folder to make it in.")] = Path("bases"),
    config_from: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder in diffusers' layout, or builtin:miniature, whose configurations and tokenizer"
            " a single file gets.",
        ),
    ] = None,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Read a .ckpt; of it only tensors are taken.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan and change nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Bring a base model or an image classifier into a sealed folder.

    Takes folders in diffusers' layout, snapshots of a Hugging Face cache, repositories with only a fp16
    variant, shards, single files of the original layout, and ViT classifiers. Nothing is downloaded.
    Checks every tensor against its class; a folder appears only when it is whole.
    """
    quiet_libraries()
    from darkroom_trainer.importing.bring import plan_import, run_import

    plan = plan_import(
        source, name, output, configs=_config_folder(config_from), allow_pickle=allow_pickle
    )
    if not as_json:
        _show(plan)
    if dry_run:
        if as_json:
            print_json(_plan_json(plan))
        return
    from rich.progress import DownloadColumn

    with progress_bar(plan.source.size_bytes, DownloadColumn, quiet=as_json) as report:
        done = run_import(plan, report)
    for warning in done.warnings:
        complain(f"warning: {warning}")
    if as_json:
        print_json(_plan_json(plan) | {"digest": done.digest, "warnings": list(done.warnings)})
    else:
        _tell(done)


def _config_folder(config_from: str | None) -> Path | None:
    from darkroom_api.builtin import builtin_folder

    if config_from is None or not config_from.startswith("builtin:"):
        return None if config_from is None else Path(config_from)
    try:
        return builtin_folder(config_from.removeprefix("builtin:"))
    except (LookupError, FileNotFoundError) as error:
        raise CommandError(f"--config-from: {error.args[0]}") from error


def _show(plan: "ImportPlan") -> None:
    from darkroom_trainer.driver.sizes import in_words

    say(f"{plan.source.kind}: {plan.source.path} ({in_words(plan.source.size_bytes)})")
    say(f"licence: {plan.source.license}")
    if plan.configs is not None:
        say(f"configurations and tokenizer: {plan.configs}")
    say(f"goes to: {plan.target}")


def _plan_json(plan: "ImportPlan") -> dict[str, object]:
    return {
        "source": str(plan.source.path),
        "kind": plan.source.kind.name,
        "size_bytes": plan.source.size_bytes,
        "license": plan.source.license.declared,
        "folder": str(plan.target),
    }


def _tell(done: "Imported") -> None:
    from darkroom_api.artifact import ArtifactKind

    how = "was there already" if done.was_there else "is sealed"
    say(f"{done.folder} {how} ({done.digest[:12]}); use it with:")
    if done.kind is ArtifactKind.CLASSIFIER:
        say(f"  darkroom serve --classifier {done.folder}")
        return
    say(f"  baseModel: {{uri: file:{done.folder}}}")
    say(f"  darkroom serve --base {done.folder}")
