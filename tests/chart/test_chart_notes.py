"""What `helm install` says at its end: three commands, and only what is true."""

import re
from pathlib import Path

import pytest

from darkroom_operator.decisions.refusals import KUBERAY_INSTALL

ROOT = Path(__file__).resolve().parents[2]


def commands(notes):
    return [line.strip() for line in notes.splitlines() if line.startswith("       ")]


def test_the_next_three_commands(chart):
    assert commands(chart.notes())[:3] == [
        "kubectl rollout status --namespace darkroom-system deployment/darkroom-operator",
        "kubectl apply --namespace darkroom-system -f examples/01-mascot.yaml",
        "kubectl get personalizationjobs --namespace darkroom-system --watch",
    ]


def test_the_file_that_is_applied_exists(chart):
    for path in re.findall(r"-f (\S+)", chart.notes()):
        assert (ROOT / path).is_file()


def test_jobs_go_where_the_operator_looks(chart):
    notes = chart.notes({"watchNamespaces": ["team-a", "team-b"]})
    assert "the PersonalizationJobs of team-a, team-b." in notes
    assert "kubectl apply --namespace team-a -f" in notes


def test_a_missing_kuberay_is_told_with_the_command_that_installs_it(chart):
    assert KUBERAY_INSTALL in chart.notes()
    ray = {"launcher": {"kind": "ray-jobs", "address": "http://ray:8265"}}
    assert "kuberay" not in chart.notes(ray)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"registry": {"existingClaim": "mine"}}, "change its output.uri to pvc://mine first"),
        ({"registry": {"claimName": "other"}}, "change its output.uri to pvc://other first"),
        ({"registry": {"create": False}}, "No model registry was made"),
        ({"operator": {"enabled": False}}, "nothing runs them"),
    ],
)
def test_what_is_switched_off_is_said(chart, values, said):
    assert said not in chart.notes()
    assert said in chart.notes(values)


def test_nothing_is_left_of_the_template(chart):
    notes = chart.notes()
    assert "{{" not in notes
    assert "<no value>" not in notes
    assert not re.search(r"\n{3,}", notes)
