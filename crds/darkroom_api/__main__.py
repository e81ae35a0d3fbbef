"""`python -m darkroom_api` writes the CRD and the job file's reference; `--check` compares them."""

import sys
from pathlib import Path
from typing import Final

from darkroom_api.crd import render_crd_text
from darkroom_api.names import GROUP, PLURAL
from darkroom_api.reference import render_reference

CRD_FILE: Final = f"crds/{GROUP}_{PLURAL}.yaml"
REFERENCE_FILE: Final = "docs/job-file.md"
CHECKOUT: Final = Path(__file__).parents[2]


def main(arguments: list[str], root: Path = CHECKOUT) -> int:
    """Writes both files, or with `--check` says which of them differ; returns the exit status."""
    if arguments not in ([], ["--check"]):
        print("usage: python -m darkroom_api [--check]", file=sys.stderr)
        return 2
    rendered = {root / CRD_FILE: render_crd_text(), root / REFERENCE_FILE: render_reference()}
    if arguments:
        return _check(rendered)
    for path, text in rendered.items():
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path}")
    return 0


def _check(rendered: dict[Path, str]) -> int:
    stale = [path for path, text in rendered.items() if _read(path) != text]
    for path in stale:
        print(f"{path} is not what the models say: run make crds", file=sys.stderr)
    return 1 if stale else 0


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
