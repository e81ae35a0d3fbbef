"""What a test run cost: the slowest tests and each folder, children included."""

from darkroom_testing.costs import Cost, folders, slowest

COSTS = {
    "tests/a/test_one.py::test_x[1/2]": Cost(30, 1),
    "tests/a/test_one.py::test_y": Cost(90, 2),
    "tests/b/test_two.py::test_z": Cost(59.5, 200),
    "tests/b/test_two.py::test_quick": Cost(0.5, 0),
}
TESTS = """
import subprocess, sys

def test_a_child_works():
    subprocess.run([sys.executable, "-c", "import time\\nwhile time.process_time() < 0.5: pass"])
"""


def test_the_slowest_come_first_and_only_so_many_without_the_quick():
    assert len(slowest(COSTS)) == 3
    first, second = slowest(COSTS, 2)
    assert first.split() == ["90.0", "s", "2.0", "s", "CPU", "tests/a/test_one.py::test_y"]
    assert second.endswith("tests/b/test_two.py::test_z")


def test_each_folder_is_a_line_and_all_are_the_last():
    lines = [line.split() for line in folders(COSTS)]
    assert [(line[0], line[2], line[-1]) for line in lines] == [
        ("2.0", "3.0", "tests/a"),
        ("1.0", "200.0", "tests/b"),
        ("3.0", "203.0", "all"),
    ]


def test_what_a_child_takes_is_in_it(pytester, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # others' are slow to load
    pytester.makepyfile(test_child=TESTS)
    result = pytester.runpytest("-p", "darkroom_testing.costs")
    (line,) = (line for line in result.stdout.lines if line.endswith("  all"))
    assert float(line.split()[2]) >= 0.5
