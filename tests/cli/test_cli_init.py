"""`darkroom init`: what it writes loads, and nothing is overwritten."""

import pytest

from darkroom.commands import init as init_command
from darkroom.commands.init import Kind, images_uri, name_of
from darkroom.job_template import GPU, LAPTOP
from darkroom_api.job import Precision, SubjectKind
from darkroom_api.load import load_job

ANIMAL = ("--kind", "Animal", "--class-noun", "dog", "--photos", "builtin:mascot")


def test_flags_alone_give_a_job_for_a_laptop(tmp_path, darkroom):
    file = tmp_path / "my dog.yaml"
    result = darkroom("init", file, *ANIMAL)
    assert result.exit_code == 0, result.output
    job = load_job(file)
    assert job.metadata.name == "my-dog"
    assert job.spec.base_model.uri == "builtin:miniature"
    assert job.spec.subject.images.uri == "builtin:mascot"
    assert job.spec.scale.gpus_per_worker == 0
    assert job.spec.scale.precision is Precision.FP32
    assert job.spec.training.max_steps == LAPTOP.max_steps
    assert job.spec.training.learning_rate == "3e-4"


def test_another_base_model_gets_the_numbers_for_a_gpu(tmp_path, darkroom):
    file = tmp_path / "cup.yaml"
    base = f"hf://org/model@{'0' * 40}"
    result = darkroom("init", file, *ANIMAL, "--base", base, "--steps", 900)
    assert result.exit_code == 0, result.output
    job = load_job(file)
    assert job.spec.training.learning_rate == GPU.learning_rate
    assert job.spec.training.resolution == 512
    assert job.spec.training.max_steps == 900
    assert job.spec.scale.gpus_per_worker == 1
    assert job.spec.scale.precision is Precision.FP16


def test_it_asks_on_a_terminal_for_what_the_flags_do_not_give(tmp_path, darkroom, monkeypatch):
    monkeypatch.setattr(init_command, "has_terminal", lambda: True)
    file = tmp_path / "cup.yaml"
    answers = "thing\nobject\ncoffee cup\nphotos/cup\n"
    result = darkroom("init", file, input=answers)
    assert result.exit_code == 0, result.output
    subject = load_job(file).spec.subject
    assert (subject.kind, subject.class_noun) == (SubjectKind.OBJECT, "coffee cup")


def test_without_a_terminal_it_says_which_flag_is_missing(tmp_path, darkroom):
    result = darkroom("init", tmp_path / "cup.yaml")
    assert result.exit_code == 2
    assert "--kind" in result.stderr


def test_a_person_needs_consent(tmp_path, darkroom):
    file = tmp_path / "ada.yaml"
    person = ("--kind", "Person", "--class-noun", "woman", "--photos", "file:photos")
    assert "--consent-record" in darkroom("init", file, *person).stderr
    consent = ("--consent-record", "ada-consent", "--consent-expires", "2027-06-30T00:00:00Z")
    result = darkroom("init", file, *person, *consent)
    assert result.exit_code == 0, result.output
    assert load_job(file).spec.subject.consent.record_ref.name == "ada-consent"


def test_it_does_not_overwrite_without_force(tmp_path, darkroom):
    file = tmp_path / "rex.yaml"
    file.write_text("precious")
    result = darkroom("init", file, *ANIMAL)
    assert result.exit_code == 1
    assert "--force" in result.stderr
    assert file.read_text() == "precious"
    assert darkroom("init", file, *ANIMAL, "--force").exit_code == 0
    assert load_job(file).metadata.name == "rex"


def test_wrong_answers_are_explained_and_nothing_is_written(tmp_path, darkroom):
    file = tmp_path / "rex.yaml"
    result = darkroom("init", file, *ANIMAL, "--name", "Rex!", "--identifier", "SKS")
    assert result.exit_code == 1
    assert "metadata.name" in result.stderr
    assert "spec.subject.identifier" in result.stderr
    assert "Traceback" not in result.stderr
    assert not file.exists()


@pytest.mark.parametrize("noun", ["no", "true", "null", "123", "1e3", "cat's eye"])
def test_words_that_mean_something_in_yaml_stay_words(noun, tmp_path, darkroom):
    file = tmp_path / "job.yaml"
    result = darkroom("init", file, *ANIMAL, "--class-noun", noun, "--name", "123")
    assert result.exit_code == 0, result.output
    job = load_job(file)
    assert (job.spec.subject.class_noun, job.metadata.name) == (noun, "123")


def test_photos_are_relative_to_the_job_file(tmp_path):
    assert images_uri(f"{tmp_path}/photos/rex", tmp_path / "jobs" / "rex.yaml") == (
        "file:../photos/rex"
    )
    assert images_uri("pvc://photos/rex", tmp_path / "rex.yaml") == "pvc://photos/rex"


@pytest.mark.parametrize("photos", ["https://example.com/rex", "hf://org/rex"])
def test_photos_that_no_job_can_read_are_refused(photos, tmp_path, darkroom):
    file = tmp_path / "rex.yaml"
    result = darkroom("init", file, *ANIMAL, "--photos", photos)
    assert result.exit_code == 1
    assert f'spec.subject.images.uri: "{photos}" has the wrong form; use s3://' in result.stderr
    assert not file.exists()


@pytest.mark.parametrize(
    ("file", "name"),
    [("My Dog_2.yaml", "my-dog-2"), ("x" * 60 + ".yaml", "x" * 40), ("--.yaml", "job")],
)
def test_a_name_is_made_from_the_file(file, name, tmp_path):
    assert name_of(tmp_path / file) == name


def test_the_kinds_are_those_of_the_api():
    assert set(Kind.__args__) == set(SubjectKind)
