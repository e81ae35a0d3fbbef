"""The command as a whole: help, exit codes, what it imports, and its reference page."""

import os
import shlex
import signal
import subprocess
import sys

import pytest
import typer.main

from darkroom import reference
from darkroom.commands import init as init_command
from darkroom.main import app
from darkroom.server_process import free_port
from darkroom_testing.foreground import foreground

HEAVY = ("torch", "ray", "diffusers", "transformers", "deepspeed", "rich", "httpx2", "PIL")


def commands(command=None, names=()):
    command = command or typer.main.get_command(app)
    yield names, command
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, (*names, name))


NAMES = [names for names, _ in commands()]


def test_all_commands_are_there():
    assert {names[0] for names in NAMES if len(names) == 1} == {
        "init",
        "import",
        "lint",
        "train",
        "apply",
        "watch",
        "describe",
        "logs",
        "suspend",
        "resume",
        "cancel",
        "serve",
        "generate",
        "classify",
        "evaluate",
        "models",
        "demo",
        "doctor",
    }


@pytest.mark.parametrize("names", NAMES, ids=" ".join)
def test_every_help_has_an_example_of_that_command(names, darkroom):
    result = darkroom(*names, "--help")
    assert result.exit_code == 0
    _, _, examples = result.stdout.partition("Examples:\n")
    assert " ".join(("darkroom", *names)) in examples


@pytest.mark.parametrize("names", NAMES, ids=" ".join)
def test_every_option_says_what_it_does(names):
    command = dict(commands())[names]
    assert command.help
    assert all(parameter.help for parameter in command.params)


@pytest.mark.parametrize(
    "code",
    [
        "import darkroom",
        "import darkroom.main",
        "from typer.testing import CliRunner; from darkroom.main import app;"
        " assert CliRunner().invoke(app, ['train', '--help']).exit_code == 0",
    ],
    ids=["package", "command", "help"],
)
def test_nothing_heavy_is_imported_before_it_is_needed(code):
    check = f"{code}; import sys; print(*(name for name in {HEAVY} if name in sys.modules))"
    run = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


def test_lint_needs_no_machine_learning(valid_job):
    check = (
        "import sys; from typer.testing import CliRunner; from darkroom.main import app;"
        f" assert CliRunner().invoke(app, ['lint', {str(valid_job)!r}]).exit_code == 0;"
        " print(*(name for name in ('torch', 'ray', 'diffusers') if name in sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


@pytest.mark.parametrize("command", ["train", "serve"])
def test_a_part_that_is_not_installed_is_said(command, valid_job):
    arguments = {"train": ["darkroom", "train", str(valid_job)], "serve": ["darkroom", "serve"]}
    absent = ("torch", "ray", "fastapi", "psutil")
    code = f"import sys; sys.modules |= dict.fromkeys({absent}); sys.argv = {arguments[command]}"
    code += "; from darkroom.main import main; main()"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "Traceback" not in run.stderr
    assert "is not installed; run make setup" in run.stderr


def test_the_client_is_exported():
    import darkroom

    assert {"Client", "AsyncClient", "DarkroomError"} <= set(darkroom.__all__)
    assert all(getattr(darkroom, name).__name__ == name for name in darkroom.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        darkroom.Nothing  # noqa: B018


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--version"], 0),
        (["lint", "absent.yaml"], 1),
        (["models", "list", "--registry", "absent"], 1),
        (["lint"], 2),
        (["paint"], 2),
        (["train", "job.yaml", "--metrics-port", "0"], 2),
    ],
    ids=str,
)
def test_exit_codes(arguments, code, darkroom_process, tmp_path):
    run = darkroom_process(*arguments, cwd=tmp_path)
    assert run.returncode == code
    assert "Traceback" not in run.stderr
    assert bool(run.stderr) == (code != 0)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
def test_a_signal_ends_the_command_with_its_own_code(number, code, tmp_path):
    pipe = tmp_path / "picture.png"
    os.mkfifo(pipe)
    process = subprocess.Popen(
        [sys.executable, "-m", "darkroom", "classify", str(pipe)],
        preexec_fn=foreground,
    )
    with pipe.open("wb"):  # opens when the command has begun to read, and keeps it waiting
        process.send_signal(number)
        assert process.wait(timeout=60) == code


def test_giving_up_at_a_question_ends_with_the_code_of_ctrl_c(tmp_path, darkroom, monkeypatch):
    monkeypatch.setattr(init_command, "has_terminal", lambda: True)
    result = darkroom("init", tmp_path / "rex.yaml", input="")
    assert result.exit_code == 130
    assert not (tmp_path / "rex.yaml").exists()


def test_an_occupied_port_is_said_before_anything_starts(tmp_path, darkroom, server_url):
    port = server_url.rpartition(":")[2]
    result = darkroom("serve", "--registry", tmp_path, "--port", port)
    assert result.exit_code == 1
    assert f"--port: 127.0.0.1:{port} can't be used" in result.stderr


def test_a_base_model_that_is_not_there_is_said(tmp_path, darkroom):
    arguments = ("--port", free_port(), "--base", tmp_path / "absent")
    result = darkroom("serve", "--registry", tmp_path, *arguments)
    assert result.exit_code == 1
    assert "--base" in result.stderr


@pytest.mark.parametrize("names", NAMES, ids=" ".join)
@pytest.mark.parametrize("columns", [1, 20])
def test_help_fits_any_terminal(names, columns, darkroom):
    result = darkroom(*names, "--help", env={"COLUMNS": str(columns)})
    assert result.exit_code == 0
    assert "Examples:" in result.stdout


def run_with(tmp_path, redirect, *arguments, **environment):
    """Runs the command from a shell, with streams as given."""
    command = shlex.join([sys.executable, "-m", "darkroom", *map(str, arguments)])
    return subprocess.run(
        ["sh", "-c", f"{command} {redirect}"],
        cwd=tmp_path,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("redirect", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
@pytest.mark.parametrize("arguments", [["--help"], ["init", "x.yaml"], ["models", "list"]], ids=str)
def test_closed_streams_are_no_reason_for_a_traceback(arguments, redirect, tmp_path):
    (tmp_path / "models").mkdir()
    run = run_with(tmp_path, redirect, *arguments)
    assert run.returncode == (2 if arguments[0] == "init" else 0)
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["models", "list"], ["doctor"]], ids=str)
def test_a_reader_that_is_gone_ends_the_command_quietly(arguments, tmp_path):
    (tmp_path / "models").mkdir()
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "darkroom", *arguments]
    run = subprocess.run(command, cwd=tmp_path, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (run.returncode, run.stderr) == (1, b"")


@pytest.mark.parametrize(
    "language", [{"LANG": "C"}, {"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}]
)
def test_every_letter_can_be_printed_in_any_language(language, valid_job, tmp_path):
    (tmp_path / "photos").mkdir()
    job = valid_job.rename(tmp_path / "smørrebrød.yaml")
    run = run_with(tmp_path, "", "lint", job.name, **language)
    assert run.returncode == 0
    assert run.stdout in ("smørrebrød.yaml: ok\n", "sm\\xf8rrebr\\xf8d.yaml: ok\n")
    assert run.stderr == ""
    assert run_with(tmp_path, "", "--help", **language).returncode == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["init", "x.yaml", "--kind", "Animal", "--class-noun", "dog", "--photos", "photos"],
        ["train", "x.yaml"],
        ["doctor"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_current_folder_that_was_removed_is_said(arguments, tmp_path):
    folder = tmp_path / "gone"
    folder.mkdir()
    command = shlex.join([sys.executable, "-m", "darkroom", *arguments])
    run = subprocess.run(
        ["sh", "-c", f'rmdir "$PWD"; exec {command}'],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    last = "the current folder was removed: go to another one with cd, and repeat"
    assert run.stderr.splitlines()[-1] == last
    assert "Traceback" not in run.stderr
    assert "Errno" not in run.stderr


def test_the_reference_page_is_up_to_date():
    assert reference.TARGET.read_text() == reference.render(), "run python -m darkroom.reference"
