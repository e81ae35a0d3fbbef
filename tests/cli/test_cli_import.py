"""`darkroom import`: shown, done, and said how to use it; the files themselves: tests/trainer."""

import json
import shutil

import pytest

from darkroom_api.builtin import builtin_folder
from darkroom_api.integrity import verify
from darkroom_api.names import MANIFEST_FILE

pytestmark = pytest.mark.usefixtures("classes_built_here")


@pytest.fixture
def source(tmp_path):
    """A base model as anybody has it: without a manifest."""
    ignore = shutil.ignore_patterns(MANIFEST_FILE)
    folder = shutil.copytree(builtin_folder("miniature"), tmp_path / "my model", ignore=ignore)
    (folder / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    return folder


def test_the_plan_comes_first_and_the_lines_to_use_it_last(source, tmp_path, darkroom):
    output = tmp_path / "bases"
    shown = darkroom("import", source, "mini", "--output", output, "--dry-run")
    assert shown.exit_code == 0
    assert shown.stdout.splitlines() == [
        f"base model in diffusers' layout: {source} (13.7 MiB)",
        "licence: cc-by-nc-4.0: forbids commercial use",
        f"goes to: {output / 'mini'}",
    ]
    assert not output.exists()
    done = darkroom("import", source, "mini", "--output", output)
    digest = verify(output / "mini").digest
    assert done.stdout.splitlines()[3:] == [
        f"{output / 'mini'} is sealed ({digest[:12]}); use it with:",
        f"  baseModel: {{uri: file:{output / 'mini'}}}",
        f"  darkroom serve --base {output / 'mini'}",
    ]
    again = darkroom("import", source, "mini", "--output", output, "--json")
    assert json.loads(again.stdout) == {
        "source": str(source),
        "kind": "BASE_FOLDER",
        "size_bytes": 14335252,
        "license": "cc-by-nc-4.0",
        "folder": str(output / "mini"),
        "digest": digest,
        "warnings": [],
    }


def test_what_can_not_be_imported_is_one_line(source, tmp_path, darkroom):
    (source / "unet" / "config.json").unlink()
    result = darkroom("import", source, "mini", "--output", tmp_path / "bases")
    assert result.exit_code == 1
    assert result.stderr == (
        f"{source}: {source} has no unet/config.json; use a complete model in diffusers' layout\n"
    )
    result = darkroom("import", source, "mini", "--config-from", "builtin:maxiature")
    assert result.stderr.startswith("--config-from: builtin:maxiature is unknown; there are")
