"""Exhaustive tests take turns: what runs when, that everything has its turn, and what is said of it."""

import subprocess
from collections import Counter

import pytest

from darkroom_testing.rotation import PARTS, head, parts_of, turn_of_commit, turn_of_option

PLUGIN = ("-p", "darkroom_testing.rotation")
TESTS = """
import pytest

def test_always():
    pass

@pytest.mark.exhaustive
@pytest.mark.parametrize("number", range(50))
def test_each(number):
    pass

@pytest.mark.exhaustive(proven=False)
@pytest.mark.parametrize("number", range(10))
def test_new(number):
    pass
"""
NODE_IDS = [f"tests/test_{file}.py::test_each[{number}]" for file in "abc" for number in range(50)]


@pytest.fixture
def run(pytester, monkeypatch):
    """Runs the tests above; their outcomes, and what was printed."""
    pytester.makepyfile(test_rows=TESTS)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # others' are slow to load

    def with_arguments(*arguments):
        result = pytester.runpytest(*PLUGIN, *arguments)
        outcomes = result.parseoutcomes()
        return outcomes.get("passed", 0), outcomes.get("deselected", 0), result.stdout.str()

    return with_arguments


def commit(folder):
    """Makes the folder a checkout with a commit."""
    author = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], [*author, "commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return head(folder)


@pytest.mark.parametrize("parts", [1, 3, PARTS, 60])
def test_the_tests_of_a_file_are_dealt_evenly(parts):
    found = parts_of(NODE_IDS, parts)
    assert list(found) == NODE_IDS
    for file in "abc":
        counts = Counter(part for name, part in found.items() if f"test_{file}" in name)
        assert set(counts) <= set(range(1, parts + 1))
        assert sum(counts.values()) == 50
        numbers = [counts[part] for part in range(1, parts + 1)]
        assert max(numbers) - min(numbers) <= 1


def test_the_commits_give_every_part_its_turn():
    turns = [turn_of_commit(f"{number:040x}", "") for number in range(PARTS)]
    assert {turn.part for turn in turns} == set(range(1, PARTS + 1))
    assert {turn.parts for turn in turns} == {PARTS}


def test_the_part_of_a_test_does_not_depend_on_the_process():
    assert parts_of(["tests/test_a.py::test_each[1]"], 12) == {"tests/test_a.py::test_each[1]": 8}


def test_the_commit_chooses_and_the_output_says_so(run, pytester):
    chosen = commit(pytester.path)
    passed, deselected, output = run()
    turn = turn_of_commit(chosen, "")
    ids = [f"test_rows.py::test_each[{number}]" for number in range(50)]
    running = list(parts_of(ids, PARTS).values()).count(turn.part)
    assert (passed, deselected) == (1 + running, 60 - running)
    assert f"exhaustive tests: {turn.name} (commit {chosen[:8]})" in output
    said = f"{turn.name} of the exhaustive tests (commit {chosen[:8]}): {running} of 60"
    assert f"{said}; make test-exhaustive runs all" in output


def test_a_checkout_of_somebody_else_has_its_commit(pytester, monkeypatch):
    chosen = commit(pytester.path)
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    assert head(pytester.path) == chosen


def test_without_git_the_first_part_runs_and_the_reason_is_named(run, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert f"part 1 of {PARTS} (git knows no commit here)" in run()[2]


@pytest.mark.parametrize(("option", "running"), [("all", 60), ("none", 0)])
def test_all_or_none_run_when_they_are_asked_for(run, option, running):
    passed, _, output = run(f"--exhaustive={option}")
    assert passed == 1 + running
    assert f"{option} of the exhaustive tests (--exhaustive={option}): {running} of 60" in output


@pytest.mark.parametrize("arguments", [("test_rows.py::test_each",), ("-k", "test_each")])
def test_what_is_asked_for_by_name_runs(run, arguments):
    assert run(*arguments)[0] == 50


def test_what_the_marks_of_a_run_leave_is_counted(run):
    assert ": 60 of 60;" in run("--exhaustive=all")[2]
    assert ": 10 of 10;" in run("--exhaustive=all", "-m", "exhaustive(proven=False)")[2]
    assert "of the exhaustive tests" not in run("-m", "not exhaustive")[2]


@pytest.mark.parametrize("option", ["some", "0/3", "4/3", "1/0", "-1/3", "1/x"])
def test_an_option_that_names_no_part_is_refused(option):
    with pytest.raises(ValueError, match="use auto, all, none, or K/N with K from 1 to N"):
        turn_of_option(option)
