"""The demo's own server: started beside it, and gone with it."""

import pytest

from darkroom.errors import CommandError
from darkroom.server_process import ServerProcess


def test_a_server_that_dies_is_an_error_with_its_last_words(tmp_path, monkeypatch):
    monkeypatch.setenv("DARKROOM_BUILTIN_DIR", str(tmp_path / "nowhere"))
    server = ServerProcess(tmp_path, tmp_path / "serve.log")
    with server, pytest.raises(CommandError, match="ended before it was ready") as error:
        server.wait(60, server.is_ready)
    assert "builtin:miniature are not installed" in str(error.value)


def test_a_server_that_is_late_is_an_error_and_is_stopped(tmp_path):
    server = ServerProcess(tmp_path, tmp_path / "serve.log")
    with server, pytest.raises(CommandError, match="was not ready after 0 s"):
        server.wait(0, lambda: False)
    assert server.exit_code is not None
