"""What `darkroom generate` asks for: one prompt, or those of a file, each with its options and seed."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from darkroom.errors import CommandError
from darkroom.wire import ImageOptions

SEEDS: Final = 2**63
"""After the largest seed comes 0, as on the server."""


@dataclass(frozen=True)
class Asked:
    """One request: so many pictures of a prompt."""

    prompt: str
    options: Mapping[str, Any]
    """As `ImageOptions`."""

    where: str | None = None
    """Its file and line, for errors; None for the prompt of the command line."""

    @property
    def n(self) -> int:
        """Number of pictures."""
        return int(self.options.get("n", 1))


def read_prompts(file: Path, options: Mapping[str, Any]) -> list[Asked]:
    """The prompts of a text file, one a line; empty lines and those that begin with # are left out.

    A line may be a JSON object instead: `prompt`, and options of its own, which come before those given.
    Raises CommandError.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise CommandError(
            f"--prompts: {file}: can't be read: {error.strerror}; check the path"
        ) from error
    except UnicodeDecodeError as error:
        raise CommandError(f"--prompts: {file} is not UTF-8; save it as plain text") from error
    asked = [
        _asked(line.strip(), f"{file}, line {number}", options)
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.strip().startswith("#")
    ]
    if not asked:
        raise CommandError(f"--prompts: {file} holds no prompt; write one a line")
    return asked


def with_seeds(asked: Sequence[Asked], seed: int, *, same_noise: bool) -> list[Asked]:
    """Seeds for the prompts that have none: they count on from picture to picture, or begin anew with each prompt."""
    found, before = [], 0
    for one in asked:
        own = {"seed": (seed if same_noise else seed + before) % SEEDS}
        found.append(replace(one, options=own | dict(one.options)))
        before += one.n
    return found


def _asked(line: str, where: str, options: Mapping[str, Any]) -> Asked:
    if not line.startswith("{"):
        return Asked(line, options, where)
    try:
        fields = json.loads(line)
    except ValueError as error:
        raise CommandError(
            f"{where}: is not JSON ({error}); a prompt must not begin with a brace"
        ) from error
    prompt = fields.pop("prompt", None)
    if not isinstance(prompt, str):
        raise CommandError(f'{where}: prompt: is missing; write {{"prompt": "a photo of …"}}')
    known = ImageOptions.__annotations__
    for name in fields:
        if name not in known:
            raise CommandError(f"{where}: {name}: is unknown; there are {', '.join(known)}")
    n = fields.get("n", 1)
    if not isinstance(n, int) or isinstance(n, bool) or n < 1:
        raise CommandError(f"{where}: n: must be a whole number from 1 on; it is {n!r}")
    return Asked(prompt, {**options, **fields}, where)
