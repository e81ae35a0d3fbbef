"""Job files that are right: the examples, defaults, and YAML as kubectl reads it."""

import pickle
from pathlib import Path

import pytest
import yaml

from darkroom_api.integrity import IntegrityError
from darkroom_api.job import Offload, PersonalizationJob, Precision, PriorMode
from darkroom_api.load import JobFileError, load_job, parse_job
from darkroom_api.reference import EXAMPLE

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_loads_and_the_apiserver_takes_it(apiserver, path):
    assert isinstance(load_job(path), PersonalizationJob)
    assert apiserver.refusals(yaml.safe_load(path.read_text())) == []


def test_there_are_examples_and_they_are_numbered():
    assert [path.name[:3] for path in EXAMPLES] == [
        f"{n:02d}-" for n in range(1, len(EXAMPLES) + 1)
    ]
    assert len(EXAMPLES) >= 2


def test_the_example_of_the_reference_loads(apiserver):
    job = yaml.safe_load(EXAMPLE)
    assert parse_job(job).metadata.name == "rex"
    assert apiserver.refusals(job) == []


def test_the_readme_shows_a_job_that_loads():
    text = (ROOT / "README.md").read_text()
    block = text.partition("```yaml\n")[2].partition("```")[0]
    assert parse_job(yaml.safe_load(block)).metadata.name == "rex"


def test_the_page_about_training_shows_fields_that_load(small_job):
    text = (ROOT / "docs" / "training.md").read_text()
    blocks = [block.partition("```")[0] for block in text.split("```yaml\n")[1:]]
    specs = []
    for shown in map(yaml.safe_load, blocks):
        spec = small_job["spec"] | {
            section: small_job["spec"].get(section, {}) | fields
            for section, fields in shown.items()
        }
        specs.append(parse_job(small_job | {"spec": spec}).spec)
    tuned, lora, inversion = (spec.training for spec in specs)
    assert tuned.text_encoder_stop_step == 200
    assert lora.adapters.rank == 16
    assert inversion.added_tokens.vectors == 2


def test_what_is_absent_has_its_default(small_job):
    spec = parse_job(small_job).spec
    assert spec.prior_preservation.mode is PriorMode.GENERATED_IMAGES
    assert spec.training.learning_rate == "5e-6"
    assert spec.scale.precision is Precision.FP16
    assert spec.validation is None


def test_an_empty_field_counts_as_absent(apiserver, small_job):
    small_job["spec"]["training"] = None
    small_job["spec"]["scale"] = {"offload": None}
    assert parse_job(small_job).spec.scale.offload is Offload.NONE
    assert apiserver.refusals(small_job) == []


def test_a_whole_number_with_a_point_is_whole(apiserver, small_job):
    small_job["spec"]["training"] = {"maxSteps": 800.0}
    assert parse_job(small_job).spec.training.max_steps == 800
    assert apiserver.refusals(small_job) == []


def write(tmp_path, small_job, line):
    """A job file whose training section is one line as it stands."""
    path = tmp_path / "job.yaml"
    path.write_text(f"{yaml.safe_dump(small_job)}  training: {{{line}}}\n")
    return path


def test_an_error_survives_the_way_between_processes(tmp_path):
    with pytest.raises(JobFileError) as caught:
        load_job(tmp_path / "absent.yaml")
    for error in (caught.value, IntegrityError(tmp_path, "empty is missing")):
        copied = pickle.loads(pickle.dumps(error))
        assert (type(copied), str(copied)) == (type(error), str(error))


@pytest.mark.parametrize("text", ["5e-6", "5E-6", "0.1", "1.", ".5", "1e+0"])
def test_a_number_without_quotes_is_no_string(tmp_path, small_job, text):
    with pytest.raises(
        JobFileError, match=r"spec\.training\.learningRate: is a number.* in quotes"
    ):
        load_job(write(tmp_path, small_job, f"learningRate: {text}"))


@pytest.mark.parametrize("text", ["1e3", "1_000", "0x3e8", "+1000", "1000.0"])
def test_numbers_are_read_as_kubectl_reads_them(tmp_path, small_job, text):
    job = load_job(write(tmp_path, small_job, f"maxSteps: {text}"))
    assert job.spec.training.max_steps == 1000


def test_sixty_to_the_power_is_no_number(tmp_path, small_job):
    with pytest.raises(JobFileError, match="is a string, not a whole number"):
        load_job(write(tmp_path, small_job, "maxSteps: 10:30"))


def test_a_date_without_quotes_is_text(tmp_path, small_job):
    consent = "consent: {recordRef: {name: ada}, expires: 2027-06-30T00:00:00Z}"
    text = yaml.safe_dump(small_job).replace(
        "    kind: Animal\n", f"    kind: Person\n    {consent}\n"
    )
    path = tmp_path / "job.yaml"
    path.write_text(text)
    consent = load_job(path).spec.subject.consent
    assert consent is not None
    assert consent.expires == "2027-06-30T00:00:00Z"


def test_anchors_and_merge_keys_work(tmp_path, small_job):
    path = write(tmp_path, small_job, "<<: {maxSteps: 7, seed: 1}, seed: 2")
    training = load_job(path).spec.training
    assert (training.max_steps, training.seed) == (7, 2)


def test_json_is_yaml(tmp_path):
    path = tmp_path / "job.json"
    job = parse_job(yaml.safe_load(EXAMPLE))
    path.write_text(job.model_dump_json(by_alias=True, exclude_none=True))
    assert load_job(path) == job


def test_what_kubectl_prints_loads_again(apiserver, small_job):
    stored = apiserver.stored(small_job)
    stored["metadata"] |= {
        "namespace": "team-a",
        "uid": "1f0c",
        "generation": 1,
        "creationTimestamp": "2027-06-30T00:00:00Z",
        "labels": {"kueue.x-k8s.io/queue-name": "gpu"},
    }
    stored["status"] = {
        "observedGeneration": 1,
        "conditions": [
            {
                "type": "Succeeded",
                "status": "Unknown",
                "reason": "Training",
                "message": "step 12 of 800",
                "lastTransitionTime": "2027-06-30T00:00:00Z",
                "observedGeneration": 1,
            }
        ],
        "attempts": [{"name": "rex-1", "startStep": 0, "startTime": "2027-06-30T00:00:00Z"}],
        "progress": {
            "step": 12,
            "maxSteps": 800,
            "percent": 1,
            "metrics": [{"name": "loss", "value": "0.0421"}],
            "lastUpdatedTime": "2027-06-30T00:01:00Z",
        },
    }
    assert apiserver.refusals(stored) == []
    job = parse_job(stored)
    assert job.status is not None
    assert job.status.conditions[0].reason.is_terminal is False
    assert (
        apiserver.stored(job.model_dump(mode="json", by_alias=True, exclude_defaults=True))["spec"]
        == stored["spec"]
    )


@pytest.mark.parametrize("typed", ["TOK", "<sks>", "ohwx_man", "Zwx", "my-dog", "sks1"])
def test_identifiers_are_taken_as_tutorials_write_them(small_job, tmp_path, apiserver, typed):
    small_job["spec"]["subject"]["identifier"] = "TYPED"
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(small_job).replace("TYPED", typed))
    assert load_job(path).spec.subject.instance_prompt == f"a photo of {typed} dog"
    stored = apiserver.stored(yaml.safe_load(path.read_text()))
    assert stored["spec"]["subject"]["identifier"] == typed


@pytest.mark.parametrize(
    "typed",
    ["no", "Yes", "on", "OFF", "True", "123", "1e3", "0x10", "1_000", "0b11", "007", "1.50", "-5"],
)
def test_what_yaml_takes_for_something_else_is_quoted_as_it_was_typed(small_job, tmp_path, typed):
    small_job["spec"]["subject"]["identifier"] = "TYPED"
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(small_job).replace("TYPED", typed))
    with pytest.raises(JobFileError) as caught:
        load_job(path)
    (problem,) = caught.value.problems
    assert problem.field == "spec.subject.identifier"
    assert problem.fix == f'write it in quotes: "{typed}"'


def test_a_choice_and_a_bound_are_quoted_as_they_were_typed(small_job, tmp_path):
    small_job["spec"]["subject"]["kind"] = "KIND"
    small_job["spec"]["training"] = {"maxSteps": "STEPS"}
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(small_job).replace("KIND", "off").replace("STEPS", "0x0"))
    with pytest.raises(JobFileError) as caught:
        load_job(path)
    kind, steps = map(str, caught.value.problems)
    assert kind.startswith("spec.subject.kind: off is not one of Object, Animal")
    assert steps == "spec.training.maxSteps: must be at least 1; it is 0x0: change it"


def test_a_value_in_a_list_and_one_from_a_merge_are_quoted_as_they_were_typed(tmp_path):
    path = tmp_path / "job.yaml"
    path.write_text(
        "x: &x {identifier: yes, classNoun: no}\n"
        "spec: {subject: {<<: *x, identifier: on}, validation: {prompts: [a dog, off]}}\n"
    )
    with pytest.raises(JobFileError) as caught:
        load_job(path)
    fixes = {problem.field: problem.fix for problem in caught.value.problems}
    assert fixes["spec.subject.identifier"] == 'write it in quotes: "on"'
    assert fixes["spec.subject.classNoun"] == 'write it in quotes: "no"'
    assert fixes["spec.validation.prompts[1]"] == 'write it in quotes: "off"'


def test_a_field_that_yaml_takes_for_true_is_named_as_it_was_typed(tmp_path):
    path = tmp_path / "job.yaml"
    path.write_text("on: 1\n")
    with pytest.raises(JobFileError, match="on: unknown field"):
        load_job(path)


def test_letters_of_other_languages_are_shown_as_they_are(small_job, tmp_path):
    small_job["spec"]["subject"]["identifier"] = "smørrebrød"
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(small_job, allow_unicode=True), encoding="utf-8")
    with pytest.raises(JobFileError, match='identifier: "smørrebrød" has the wrong form'):
        load_job(path)


def test_a_job_file_in_a_folder_that_is_gone_is_said(tmp_path):
    with pytest.raises(
        JobFileError, match=r"job\.yaml: does not exist; there is no folder .*gone: was"
    ):
        load_job(tmp_path / "gone" / "job.yaml")
