"""A machine is called busy when it has more to do than cores."""

import os

import pytest

from darkroom_local.load import busy


@pytest.mark.parametrize(
    ("load", "said"),
    [(0.0, None), (2.0, None), (5.4, "the machine is busy (load 5 on 2 cores)")],
)
def test_more_work_than_cores_is_said(monkeypatch, load, said):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    assert busy() == said
