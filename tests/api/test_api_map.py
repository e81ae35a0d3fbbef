"""docs/map.md is what the modules say of themselves."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def render_map(load_script):
    return load_script("hack/render_map.py")


def test_the_map_is_up_to_date(render_map):
    page = render_map.TARGET.read_text()
    assert page == render_map.render(ROOT, render_map.TARGET.parent), "run make crds"


def test_a_package_comes_first_then_its_modules_then_the_packages_in_it(render_map, tmp_path):
    files = {
        "__init__.py": '"""The command.\n\nIt is long."""',
        "view.py": '"""Shows a|b."""',
        "commands/__init__.py": '"""One module\na subcommand."""',
        "commands/train.py": '"""Trains."""',
        "data/table.txt": "no package",
    }
    for name, text in files.items():
        path = tmp_path / "cli" / "darkroom" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    page = render_map.render(tmp_path, tmp_path / "docs")
    assert page.removeprefix(render_map.INTRODUCTION) == (
        "\n## `cli/darkroom/`\n\nThe command.\n\n| | |\n|---|---|\n"
        "| [`view`](../cli/darkroom/view.py) | Shows a&#124;b. |\n"
        "\n### `cli/darkroom/commands/`\n\nOne module a subcommand.\n\n| | |\n|---|---|\n"
        "| [`train`](../cli/darkroom/commands/train.py) | Trains. |\n"
    )


def test_a_stale_map_is_named_and_left_alone(render_map, tmp_path, monkeypatch, capsys):
    stale = tmp_path / "map.md"
    monkeypatch.setattr(render_map, "TARGET", stale)
    assert render_map.main(["--check"]) == 1
    assert "run make crds" in capsys.readouterr().err
    assert not stale.exists()
    assert render_map.main([]) == 0
    assert render_map.main(["--check"]) == 0
