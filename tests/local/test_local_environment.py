"""What a local Ray's processes inherit: the user's wishes, but never an open door."""

import os
from pathlib import Path

import pytest

from darkroom_local.environment import (
    DEFAULTS,
    LONG_SPIN,
    SHORT_SPIN,
    closed_to_others,
    environment,
    spin_count,
)

NICENESS = "RAY_worker_niceness"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "session"


@pytest.mark.parametrize(
    ("threads", "cores", "load", "found"),
    [
        (2, 2, 0.1, LONG_SPIN),
        (2, 2, 0.9, SHORT_SPIN),
        (4, 2, 0.1, SHORT_SPIN),
        (1, 8, 7.0, SHORT_SPIN),
    ],
)
def test_threads_spin_for_long_only_when_they_have_the_machine_for_themselves(
    threads, cores, load, found
):
    assert spin_count(threads, cores, load) == found


def test_a_user_sets_what_is_a_matter_of_taste(monkeypatch, folder):
    monkeypatch.setenv(NICENESS, "19")
    with environment(DEFAULTS, closed_to_others(folder, folder / "token")):
        assert os.environ[NICENESS] == "19"
        assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


def test_a_user_s_environment_opens_no_door(monkeypatch, folder):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of another Ray")
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "1")
    with environment(DEFAULTS, closed_to_others(folder, folder / "token")):
        assert os.environ["RAY_AUTH_MODE"] == "token"
        assert Path(os.environ["RAY_AUTH_TOKEN_PATH"]) == folder / "token"
        assert os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"
        assert "RAY_AUTH_TOKEN" not in os.environ


def test_afterwards_the_environment_is_as_it_was(monkeypatch, folder):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of another Ray")
    before = dict(os.environ)
    with environment(DEFAULTS, closed_to_others(folder, folder / "token")):
        assert dict(os.environ) != before
    assert dict(os.environ) == before
