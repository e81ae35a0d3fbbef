"""Writes docs/map.md from the first line of each module: `python hack/render_map.py [--check]`."""

import ast
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
TARGET: Final = ROOT / "docs" / "map.md"

SOURCES: Final = ("crds", "local", "sampling", "operator", "trainer", "serving", "cli")
"""Source roots, in the order in which one reads them: each holds one package."""

INTRODUCTION: Final = """\
# Map of the code

*Rendered by `make crds` from the first line of each module: change that, not this page.*

`darkroom_api`, `darkroom_local` and `darkroom_sampling` know none of the others; `darkroom_operator`, \
`darkroom_trainer` and `darkroom_serving` use them and not each other; `darkroom`, the command, uses them all.
"""


def summary(module: Path) -> str:
    """The first paragraph of a module's docstring, on a line."""
    text = ast.get_docstring(ast.parse(module.read_bytes())) or ""
    return " ".join(text.partition("\n\n")[0].split())


def render(root: Path, page_folder: Path) -> str:
    """The page of the packages in the source roots of a checkout, with links from a folder to their modules."""
    packages = [path for source in SOURCES for path in sorted(root.glob(f"{source}/*/"))]
    sections = [
        section for package in packages for section in _sections(package, root, page_folder)
    ]
    return "\n".join([INTRODUCTION, *sections])


def _sections(package: Path, root: Path, page_folder: Path) -> Iterator[str]:
    """The section of a package, and those of the packages in it."""
    init = package / "__init__.py"
    if not init.exists():
        return
    where = package.relative_to(root)
    lines = [f"{'#' * len(where.parts)} `{where.as_posix()}/`", "", summary(init), ""]
    modules = [path for path in sorted(package.glob("*.py")) if path != init]
    if modules:
        rows = (f"| {_link(path, page_folder)} | {_cell(summary(path))} |" for path in modules)
        lines += ["| | |", "|---|---|", *rows, ""]
    yield "\n".join(lines)
    for inner in sorted(package.glob("*/")):
        yield from _sections(inner, root, page_folder)


def _link(module: Path, page_folder: Path) -> str:
    target = Path(os.path.relpath(module, page_folder)).as_posix()
    return f"[`{module.stem}`]({target})"


def _cell(text: str) -> str:
    return text.replace("|", "&#124;")


def main(arguments: list[str]) -> int:
    """Writes the page, or with --check says whether it is up to date."""
    page = render(ROOT, TARGET.parent)
    if "--check" not in arguments:
        TARGET.write_text(page, encoding="utf-8")
        return 0
    if TARGET.exists() and TARGET.read_text(encoding="utf-8") == page:
        return 0
    print(f"{TARGET} is not what the modules say: run make crds", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
