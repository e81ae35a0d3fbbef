"""`darkroom models`: what a registry on disk holds, and whether it is unaltered."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from darkroom.console import complain, print_json, print_table, say
from darkroom.errors import CommandError
from darkroom.options import JsonOption, RegistryOption, examples
from darkroom_api.words import counted

if TYPE_CHECKING:
    from darkroom_api.artifact import Addition, ModelManifest
    from darkroom_api.registry import RegistryEntry

LIST_EXAMPLES = examples(
    "darkroom models list --registry models",
    "darkroom models list --json",
)
SHOW_EXAMPLES = examples(
    "darkroom models show rex --registry models",
    "darkroom models show rex --json    # the whole manifest",
)
VERIFY_EXAMPLES = examples(
    "darkroom models verify --registry models        # all of them",
    "darkroom models verify rex --registry models",
)

FIX = "train it again, or restore the folder from a copy"
"""What to do about a model that does not verify."""

app = typer.Typer(
    name="models",
    help="Look at the models in a registry.",
    no_args_is_help=True,
    epilog=examples(
        "darkroom models list",
        "darkroom models show rex",
        "darkroom models verify",
    ),
)


@app.command("list", epilog=LIST_EXAMPLES)
def list_models(registry: RegistryOption = Path("models"), as_json: JsonOption = False) -> None:
    """List the models: id, prompt, base model."""
    rows = [_row(entry) for entry in _entries(registry)]
    if as_json:
        print_json(rows)
        return
    if not rows:
        _say_empty(registry)
        return
    print_table(
        ("model", "prompt", "base model", "steps", "created", "digest"),
        ([*(str(row[column]) for column in _COLUMNS), row["digest"][:12]] for row in rows),
    )


_COLUMNS = ("id", "prompt", "base", "steps", "created")


def _row(entry: "RegistryEntry") -> dict[str, Any]:
    from darkroom_api.integrity import IntegrityError, read_manifest

    row: dict[str, Any] = {"id": entry.model_id, "digest": entry.digest}
    row |= {"folder": str(entry.folder)} | dict.fromkeys(_COLUMNS[1:], "")
    try:
        manifest = read_manifest(entry.folder)
    except IntegrityError:
        return row | {"prompt": "damaged: see darkroom models verify"}
    if manifest.base is not None:
        row["base"] = manifest.base.uri
    if manifest.training is not None:
        training = manifest.training
        row |= {"prompt": training.instance_prompt, "steps": training.steps}
        row["created"] = training.created
    return row


@app.command("show", epilog=SHOW_EXAMPLES)
def show(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Its id, from models list.")],
    registry: RegistryOption = Path("models"),
    as_json: JsonOption = False,
) -> None:
    """Show how a model was made, and its files."""
    from darkroom_api.integrity import read_manifest

    entry = _find(registry, model)
    manifest = read_manifest(entry.folder)
    if as_json:
        print_json(manifest.model_dump(mode="json", exclude_none=True))
        return
    for name, value in _facts(entry, manifest).items():
        say(f"{name:>10}  {value}")
    for file, description in manifest.files.items():
        say(f"{'':>10}  {file}  {description.size_bytes / 1e6:.1f} MB")


def _facts(entry: "RegistryEntry", manifest: "ModelManifest") -> dict[str, object]:
    facts: dict[str, object] = {
        "model": entry.model_id,
        "digest": entry.digest,
        "folder": entry.folder,
    }
    if manifest.adds is not None:
        facts["adds"] = _addition(manifest.adds)
    if manifest.base is not None:
        facts["base"] = f"{manifest.base.uri} ({manifest.base.digest[:12]})"
    if manifest.training is not None:
        training = manifest.training
        facts |= {
            "prompt": training.instance_prompt,
            "class": training.class_prompt,
            "steps": training.steps,
            "seed": training.seed,
            "created": training.created,
        }
    return facts | {"files": len(manifest.files)}


def _addition(adds: "Addition") -> str:
    """What an adapter or token embeddings bring, in words."""
    parts = [f"LoRA of rank {adds.rank}, alpha {adds.alpha}"] if adds.rank is not None else []
    if adds.vectors is not None:
        parts.append(counted(adds.vectors, "token embedding"))
    return f"{' and '.join(parts)}, to its base model; {adds.trigger} calls the subject up"


@app.command("verify", epilog=VERIFY_EXAMPLES)
def verify(
    models: Annotated[
        list[str] | None, typer.Argument(metavar="MODEL", help="Ids; all when absent.")
    ] = None,
    registry: RegistryOption = Path("models"),
    as_json: JsonOption = False,
) -> None:
    """Check that models are complete and unaltered.

    Compares every file of a model with the digests in its manifest.
    Exits with 1 when a file is missing, added or altered, and names it.
    """
    chosen = [_find(registry, name) for name in models] if models else _entries(registry)
    problems = {entry.model_id: _problem(entry) for entry in chosen}
    if as_json:
        print_json([{"id": name, "problem": problem} for name, problem in problems.items()])
    for name, problem in problems.items():
        if problem is not None:
            complain(f"{name}: {problem}; {FIX}")
        elif not as_json:
            say(f"{name}: ok")
    if not problems and not as_json:
        _say_empty(registry)
    if any(problems.values()):
        raise typer.Exit(1)


def _say_empty(registry: Path) -> None:
    say(f"{registry} has no models yet: train one with: darkroom train job.yaml")


def _problem(entry: "RegistryEntry") -> str | None:
    """What is wrong with a model, or None."""
    from darkroom_api.integrity import IntegrityError
    from darkroom_api.registry import load_verified

    try:
        load_verified(entry)
    except IntegrityError as error:
        return str(error)
    return None


def _entries(registry: Path) -> list["RegistryEntry"]:
    from darkroom_api.registry import entries

    if not registry.is_dir():
        raise CommandError(
            f"--registry: there is no folder {registry}; name another, or let darkroom train make it"
        )
    return entries(registry)


def _find(registry: Path, model: str) -> "RegistryEntry":
    from darkroom_api.registry import find

    try:
        return find(registry, model)
    except LookupError as error:
        raise CommandError(str(error.args[0])) from error
