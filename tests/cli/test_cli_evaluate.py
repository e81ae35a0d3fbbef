"""`darkroom evaluate`: from a published model of the miniature to its figures and sheet, whole or not at all."""

import json
import os
import shutil

import pytest
from PIL import Image

from darkroom import evaluation_report
from darkroom_api.artifact import (
    ArtifactKind,
    BaseReference,
    ModelManifest,
    Training,
    content_digest,
)
from darkroom_api.builtin import builtin_folder
from darkroom_api.integrity import hash_folder, read_manifest, seal
from darkroom_api.names import MANIFEST_FILE
from darkroom_api.registry import publish, staging_folder
from darkroom_testing.tiny_encoders import write_clip, write_dino

SUBJECT = {
    "kind": "Animal",
    "identifier": "sks",
    "classNoun": "dog",
    "images": {"uri": "builtin:mascot"},
}
FEW = ("--images-per-prompt", 2, "--steps", 2, "--guidance-scale", 2)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """Tests run beside each other: threads that wait for one another would take minutes."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """The miniature, published as if a job had made it."""
    root = tmp_path_factory.mktemp("registry") / "models"
    folder = staging_folder(root, "default", "mascot")
    base = builtin_folder("miniature")
    shutil.copytree(base, folder, ignore=shutil.ignore_patterns(MANIFEST_FILE))
    files = hash_folder(folder)
    training = Training(
        spec={"subject": SUBJECT},
        instance_prompt="a photo of sks dog",
        class_prompt="a photo of a dog",
        steps=1,
        seed=0,
        created="2026-11-23T12:00:00Z",
        versions={},
    )
    manifest = ModelManifest(
        kind=ArtifactKind.SUBJECT_MODEL,
        name="mascot",
        files=files,
        digest=content_digest(files),
        base=BaseReference(uri="builtin:miniature", digest=read_manifest(base).digest),
        training=training,
    )
    seal(folder, manifest)
    publish(folder, root)
    return root


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoders")
    return f"dino={write_dino(folder / 'dino')},clip={write_clip(folder / 'clip')}"


@pytest.fixture
def evaluate(darkroom, registry, encoders, tmp_path, monkeypatch):
    """Runs the command in a folder of its own, on two prompts."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.txt").write_text(
        "a [identifier] dog in the snow\na red [identifier] dog\n"
    )
    options = ("--registry", registry, "--encoders", encoders, "--prompts", "prompts.txt", *FEW)
    return lambda *more: darkroom("evaluate", "mascot", *options, *more)


def test_from_a_published_model_to_figures_and_a_sheet(evaluate, tmp_path):
    run = evaluate("--output", "first")
    assert run.exit_code == 0, run.output
    plan, estimate, *table = run.stdout.splitlines()
    assert plan == (
        'mascot: 2 prompts x 2 and 8 of "a photo of a dog" = 12 pictures of 64 x 64, 2 steps each,'
        " on cpu; 5 photos"
    )
    assert estimate.startswith("a picture takes ")
    assert table[-1] == "written to first: look at first/contact-sheet.png"
    folder = tmp_path / "first"
    assert {path.name for path in folder.iterdir()} == {
        "evaluation.json",
        "evaluation.md",
        "contact-sheet.png",
    }
    found = json.loads((folder / "evaluation.json").read_text())
    for name, figure in found["figures"].items():
        assert figure["low"] <= figure["value"] <= figure["high"], name
        assert any(line.startswith(name) for line in table)
        assert f"| {name} | {figure['value']:.3f} | " in (folder / "evaluation.md").read_text()
    assert [one["text"] for one in found["prompts"]] == ["a dog in the snow", "a red dog"]
    with Image.open(folder / "contact-sheet.png") as sheet:
        assert sheet.height > 4 * 128  # the photos, two prompts, the class
    again = evaluate("--output", "second", "--json")
    assert json.loads(again.stdout) == found
    assert (tmp_path / "second" / "contact-sheet.png").read_bytes() == (
        folder / "contact-sheet.png"
    ).read_bytes()


def test_what_is_stopped_while_it_writes_leaves_nothing(evaluate, tmp_path, monkeypatch):
    def stop(*arguments):
        raise SystemExit(143)

    monkeypatch.setattr(evaluation_report, "compose", stop)
    assert evaluate().exit_code == 143
    assert [path.name for path in tmp_path.iterdir()] == ["prompts.txt"]


def test_a_folder_that_exists_is_left_alone(evaluate, tmp_path):
    (tmp_path / "evaluation").mkdir()
    run = evaluate()
    assert (run.exit_code, run.stderr) == (
        1,
        "--output: evaluation exists; choose another name, or remove it\n",
    )
    run = evaluate("--output", "not/there")
    assert run.stderr == "--output: the folder of not/there does not exist; create it first\n"


def test_a_folder_that_can_not_be_made_is_said_before_anything_is_drawn(evaluate):
    run = evaluate("--output", "/proc/evaluation")
    assert (run.exit_code, run.stdout) == (1, "")
    assert run.stderr.startswith("/proc/evaluation: can't be written: ")


def test_more_steps_than_the_model_has_are_refused_before_anything_is_drawn(evaluate, tmp_path):
    run = evaluate("--steps", 2000)
    assert (run.exit_code, run.stdout) == (1, "")
    assert "num_inference_steps: must be at most 1000 with ddim and this model" in run.stderr


@pytest.mark.parametrize(
    "text", ["dino=a", "a", "dino=a,clip=", "dino=a,dino=b", "dino=a,clip=b,lpips=c"]
)
def test_both_encoders_are_needed_and_no_other(darkroom, text):
    run = darkroom("evaluate", "mascot", "--encoders", text)
    assert (run.exit_code, run.stderr) == (
        1,
        f"--encoders: {text} does not name both; write dino=DIR,clip=DIR\n",
    )


def test_what_is_wrong_is_one_line_and_nothing_is_drawn(evaluate, tmp_path):
    run = evaluate("--encoders", "dino=absent,clip=absent")
    assert run.exit_code == 1
    assert run.stderr == (
        "--encoders dino: absent has no config.json that names a model; give the folder of a"
        " Dinov2Model or ViTModel in transformers' layout\n"
    )
    assert run.stdout == ""
    assert [path.name for path in tmp_path.iterdir()] == ["prompts.txt"]


def test_markdown_shows_an_identifier_in_angle_brackets_as_it_is(evaluate, tmp_path):
    (tmp_path / "prompts.txt").write_text("a sks dog | <b>\n")
    assert evaluate("--images-per-prompt", 1).exit_code == 0
    text = (tmp_path / "evaluation" / "evaluation.md").read_text()
    assert "| a sks dog &#124; &lt;b> | " in text
    assert "div_dino" not in text.partition("| prompt |")[0]
