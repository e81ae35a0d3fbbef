"""Renders what the chart repeats: its copy of the CRD, and the table of values in its README.

python charts/render.py            writes both
python charts/render.py --check    says which is out of date, and exits 1
"""

import json
import re
import sys
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).resolve().parent.parent
CHART: Final = ROOT / "charts" / "darkroom"
CRD: Final = ROOT / "crds" / "darkroom.dev_personalizationjobs.yaml"

BEGIN: Final = "<!-- values: python charts/render.py -->"
END: Final = "<!-- end of values -->"

_KEY = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z][A-Za-z0-9]*):")


def documented(text: str) -> dict[str, str]:
    """The values that have a `# --` comment, as path and comment, in the order of the file."""
    comments: dict[str, str] = {}
    comment: list[str] = []
    path: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("# -- "):
            comment = [stripped.removeprefix("# -- ")]
        elif stripped.startswith("#") and comment:
            comment.append(stripped.removeprefix("#").strip())
        elif key := _KEY.match(line):
            path = [*path[: len(key["indent"]) // 2], key["key"]]
            if comment:
                comments[".".join(path)] = " ".join(comment)
            comment = []
        else:
            comment = []
    return comments


def default_of(values: dict[str, Any], path: str) -> Any:
    """The value at `path`: `operator.replicas`."""
    value: Any = values
    for key in path.split("."):
        value = value[key]
    return value


def table(text: str) -> str:
    """The README's table of all values."""
    values = yaml.safe_load(text)
    rows = ["| value | default | |", "|---|---|---|"]
    for path, comment in documented(text).items():
        default = json.dumps(default_of(values, path))
        rows.append(f"| `{path}` | `{default}` | {comment.replace('|', '&#124;')} |")
    return "\n".join(rows)


def with_table(readme: str, text: str) -> str:
    """The README with the table between its two marks renewed."""
    head, _, rest = readme.partition(BEGIN)
    _, found, tail = rest.partition(END)
    if not found:
        raise ValueError(f"README.md must have the lines {BEGIN!r} and {END!r}")
    return f"{head}{BEGIN}\n{table(text)}\n{END}{tail}"


def rendered() -> dict[Path, str]:
    """The files that are derived, with what they should be."""
    readme = CHART / "README.md"
    text = (CHART / "values.yaml").read_text()
    return {
        CHART / "files" / CRD.name: CRD.read_text(),
        readme: with_table(readme.read_text(), text),
    }


def main() -> int:
    check = "--check" in sys.argv[1:]
    stale = [path for path, text in rendered().items() if not _same(path, text)]
    for path in stale:
        if check:
            print(f"{path.relative_to(ROOT)} is out of date: run python charts/render.py")
        else:
            path.write_text(rendered()[path])
            print(f"wrote {path.relative_to(ROOT)}")
    return 1 if check and stale else 0


def _same(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


if __name__ == "__main__":
    sys.exit(main())
