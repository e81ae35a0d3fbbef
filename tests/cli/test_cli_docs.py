"""What the documents tell people to type works: commands parse, Python runs, named files exist."""

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from darkroom.main import app
from darkroom.wire import ImageOptions

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


def blocks(path, language):
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)


def command_lines():
    """Every call of the command in the documents' shell blocks and the examples' remarks."""
    texts = [block for path in DOCUMENTS for block in blocks(path, "sh")]
    texts += [re.sub(r"^# *", "", path.read_text(), flags=re.MULTILINE) for path in EXAMPLES]
    for text in texts:
        for line in text.replace("\\\n", " ").splitlines():
            if line.startswith("darkroom "):
                yield line.partition(" > ")[0]


COMMAND_LINES = list(dict.fromkeys(command_lines()))
PROGRAMS = [
    pytest.param(block, id=f"{path.name}-{number}")
    for path in DOCUMENTS
    for number, block in enumerate(blocks(path, "python"))
]


def test_the_documents_are_read():
    assert len(COMMAND_LINES) > 20
    assert len(PROGRAMS) >= 4


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_a_command_of_the_documents_is_understood(line):
    _, *words = shlex.split(line, comments=True)
    command = get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    if words or not hasattr(command, "commands"):
        assert command.make_context("darkroom", words)  # raises what a wrong option would say


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_of_the_documents_runs(program, server_url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "http://127.0.0.1:8000" in program
    code = compile(program.replace("http://127.0.0.1:8000", server_url), "document", "exec")
    exec(code, {"__name__": "__main__"})


def test_the_client_page_names_every_option():
    text = (ROOT / "docs" / "client.md").read_text()
    assert all(f"`{name}`" in text for name in ImageOptions.__annotations__)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_the_source_files_that_a_document_names_exist(path):
    sources = [f"/{file.relative_to(ROOT).as_posix()}" for file in ROOT.glob("[!.]*/**/*.*")]
    for name in re.findall(r"`([\w./-]+\.(?:py|sh|yaml))`", path.read_text()):
        if Path(name).name not in (
            "job.yaml",
            "__init__.py",
        ):  # the user's, and one that must not be
            assert any(source.endswith(f"/{name}") for source in sources), name
