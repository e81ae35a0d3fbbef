"""Writes docs/cli.md from the command itself: `python -m darkroom.reference [--check]`."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import typer.main

from darkroom.main import app

TARGET: Final = Path(__file__).resolve().parents[2] / "docs" / "cli.md"
"""The page, in a checkout."""

INTRODUCTION: Final = """\
# The command `darkroom`

*Rendered by `make crds`: change the command's help, not this page.*

Exit codes: 0 done; 1 the job or request is wrong or failed; 2 wrong usage; 130 after Ctrl-C; 143 after SIGTERM.
With `--json` a command prints JSON on its standard output; messages go to the standard error.
"""


def render() -> str:
    """The whole page."""
    root = typer.main.get_command(app)
    return "\n".join([INTRODUCTION, *_sections(root, "darkroom")])


def _sections(command: Any, name: str) -> Iterator[str]:
    """The sections of a command and those below it; the commands' type is internal to typer."""
    yield "\n".join(_section(command, name))
    for child_name, child in getattr(command, "commands", {}).items():
        yield from _sections(child, f"{name} {child_name}")


def _section(command: Any, name: str) -> Iterator[str]:
    parameters = [parameter for parameter in command.params if parameter.name != "help"]
    yield f"## `{name}`\n"
    yield f"{_paragraphs(command.help)}\n"
    if parameters:
        yield "| option | default | meaning |\n|---|---|---|"
        for parameter in parameters:
            yield f"| {_names(parameter)} | {_default(parameter)} | {_remark(parameter)} |"
        yield ""
    yield f"```sh\n{_examples(command.epilog)}\n```\n"


def _paragraphs(text: str) -> str:
    """Help with each paragraph on a line."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _names(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{parameter.metavar}{'...' if parameter.nargs == -1 else ''}`"
    return ", ".join(f"`{name}`" for name in parameter.opts)


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    if parameter.default is None or parameter.is_flag:
        return ""
    return f"`{parameter.default}`"


def _remark(parameter: Any) -> str:
    variable = f" Environment: `{parameter.envvar}`." if parameter.envvar else ""
    return f"{parameter.help}{variable}"


def _examples(epilog: str) -> str:
    """The lines below "Examples:", without their indentation."""
    return "\n".join(line.removeprefix("  ") for line in epilog.splitlines()[2:])


def main(arguments: list[str]) -> int:
    """Writes the page, or with --check says whether it is up to date."""
    page = render()
    if "--check" not in arguments:
        TARGET.write_text(page, encoding="utf-8")
        return 0
    if TARGET.exists() and TARGET.read_text(encoding="utf-8") == page:
        return 0
    print(f"{TARGET} is not what the command says: run make crds", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
