"""`darkroom init`: what it writes loads, and nothing is overwritten."""

import shlex
import shutil

import pytest

from darkroom.commands import init as init_command
from darkroom.commands.init import Kind, name_of
from darkroom.files import file_uri
from darkroom.job_template import GPU, LAPTOP
from darkroom_api.builtin import builtin_folder
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


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setattr(init_command, "has_terminal", lambda: True)


@pytest.mark.usefixtures("terminal")
def test_it_asks_on_a_terminal_for_what_the_flags_do_not_give(tmp_path, darkroom):
    file = tmp_path / "cup.yaml"
    result = darkroom("init", file, input="object\ncoffee cup\nphotos/cup\n")
    assert result.exit_code == 0, result.output
    subject = load_job(file).spec.subject
    assert (subject.kind, subject.class_noun) == (SubjectKind.OBJECT, "coffee cup")
    assert "warning: spec.subject.images.uri: there is no folder" in result.stderr


@pytest.mark.usefixtures("terminal")
def test_a_wrong_answer_is_explained_and_only_that_is_asked_again(tmp_path, darkroom):
    file = tmp_path / "ada.yaml"
    answers = [
        "thing", "", "person",
        "a/b", "sks", "woman",
        "https://example.com/ada", "photos",
        "Ada!", "ada",
        "next year", "2020-01-01T00:00:00Z", "2999-06-30T00:00:00Z",
    ]  # fmt: skip
    result = darkroom("init", file, input="\n".join(answers))
    assert result.exit_code == 0, result.output
    *said, no_photos, unusual_noun = result.stderr.splitlines()
    assert "there is no folder" in no_photos
    assert "spec.subject.classNoun: woman is no word to the base model" in unusual_noun
    assert said == [
        '"thing" is not one of Object, Animal, Style, Person; choose one of them',
        '"" is not one of Object, Animal, Style, Person; choose one of them',
        '"a/b" has the wrong form; use a plain word, for example dog',
        "must differ from classNoun; choose a rare token such as sks",
        '"https://example.com/ada" has the wrong form; use s3://, gs://, pvc://CLAIM/path, file:PATH'
        " or builtin:mascot",
        '"Ada!" has the wrong form; use lower-case letters, digits, - and .',
        '"next year" has the wrong form; write a time in UTC, for example 2027-06-30T00:00:00Z',
        "the consent ended at 2020-01-01T00:00:00Z; ask the person again, and write when their new"
        " consent ends",
    ]
    subject = load_job(file).spec.subject
    assert (subject.kind, subject.class_noun) == (SubjectKind.PERSON, "woman")
    assert subject.consent.expires == "2999-06-30T00:00:00Z"


@pytest.mark.usefixtures("terminal")
def test_flags_that_are_wrong_are_said_before_anything_is_asked(tmp_path, darkroom):
    result = darkroom("init", tmp_path / "cup.yaml", "--identifier", "s k s", input="")
    assert result.exit_code == 1
    assert 'spec.subject.identifier: "s k s" has the wrong form' in result.stderr
    assert "What is the subject" not in result.stdout


def test_a_style_is_shown_by_its_prompts(tmp_path, darkroom):
    file = tmp_path / "ink.yaml"
    flags = ("--kind", "Style", "--class-noun", "drawing", "--photos", "builtin:mascot")
    assert darkroom("init", file, *flags).exit_code == 0
    spec = load_job(file).spec
    assert spec.validation.prompts == (
        "a photo of a drawing in the style of sks",
        "a photo of a dog in the style of sks",
        "a photo of a drawing",
    )
    assert spec.subject.instance_prompt == spec.validation.prompts[0]


def test_what_to_type_next_is_quoted_for_the_shell(tmp_path, darkroom):
    file = tmp_path / "my dog's.yaml"
    result = darkroom("init", file, *ANIMAL)
    assert [shlex.split(line)[-1] for line in result.stdout.splitlines()[1:]] == [str(file)] * 2


def test_a_path_is_taken_where_a_uri_is_wanted(tmp_path, darkroom):
    file = tmp_path / "jobs" / "rex.yaml"
    file.parent.mkdir()
    shutil.copytree(builtin_folder("miniature"), tmp_path / "smørrebrød")
    paths = ("--base", tmp_path / "smørrebrød", "--output", tmp_path / "models")
    result = darkroom("init", file, *ANIMAL, *paths)
    assert result.exit_code == 0, result.output
    assert "uri: file:../smørrebrød" in file.read_text()
    assert load_job(file).spec.base_model.uri == "file:../smørrebrød"
    assert load_job(file).spec.output.uri == "file:../models"
    assert result.stderr == ""


def test_a_path_that_no_text_can_hold_is_refused(tmp_path, darkroom):
    result = darkroom("init", tmp_path / "rex.yaml", *ANIMAL, "--base", "b\udce5se")
    assert result.exit_code == 1
    assert "this path is not UTF-8; rename the folder" in result.stderr


@pytest.mark.parametrize("noun", ["dog\nx: y", "dog # cat", "{dog}", "\x07"])
def test_no_answer_changes_the_rest_of_the_file(noun, tmp_path, darkroom):
    result = darkroom("init", tmp_path / "rex.yaml", *ANIMAL, "--class-noun", noun)
    assert result.exit_code == 1
    assert "spec.subject.classNoun: " in result.stderr
    assert "Traceback" not in result.stderr


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
    result = darkroom("init", file, *ANIMAL, "--name", "Rex!", "--identifier", "s k s")
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
    assert file_uri(f"{tmp_path}/photos/rex", tmp_path / "jobs" / "rex.yaml") == (
        "file:../photos/rex"
    )
    assert file_uri("pvc://photos/rex", tmp_path / "rex.yaml") == "pvc://photos/rex"


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
