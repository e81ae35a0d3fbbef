"""Rules over several fields: each one as CEL and as Python, with objects that pass and that fail."""

import copy
import json

import cel
import pytest

from darkroom_api.job import PersonalizationJob, PersonalizationJobSpec
from darkroom_api.load import JobFileError, parse_job
from darkroom_api.rules import NAME_RULES, SPEC_RULES, TRANSITION_RULES, changed_fields

CONSENT = {"recordRef": {"name": "consent-ada"}, "expires": "2027-06-30T00:00:00Z"}

NEW_TOKEN = {"subject": {"identifier": "<sks>"}}
INVERSION = {"method": "TextualInversion", "trainTextEncoder": False}

# Field that is blamed, a path below spec to set (sections where empty), values that pass, values that fail.
CASES = (
    (
        "subject.images",
        "subject.images",
        ({"configMap": "rex-photos"},),
        ({"uri": "file:a", "configMap": "b"}, {}),
    ),
    (
        "subject.consent",
        "subject",
        ({"kind": "Person", "consent": CONSENT}, {"kind": "Style"}),
        ({"kind": "Person"},),
    ),
    ("subject.identifier", "subject.identifier", ("sks", "dogs", "TOK"), ("dog", "Dog")),
    (
        "training.learningRate",
        "training.learningRate",
        ("1", "1.0", "1e-12", "0.000001", "1e0"),
        ("0", "0.0", "0e9", "1.000001", "1e1", "2"),
    ),
    (
        "training.warmupSteps",
        "training",
        ({"warmupSteps": 0, "maxSteps": 1}, {"warmupSteps": 99, "maxSteps": 100}),
        ({"warmupSteps": 100, "maxSteps": 100},),
    ),
    ("training.maxGradNorm", "training.maxGradNorm", ("0.1", "1e3"), ("0", "1000.5")),
    (
        "training.optimizer",
        "",
        (
            {"training": {"optimizer": "Prodigy", "warmupSteps": 5}},
            {"training": {"optimizer": "AdamW8bit", "textEncoderLearningRate": "1e-6"}},
            NEW_TOKEN | {"training": INVERSION | {"optimizer": "Prodigy", "newTokens": {}}},
        ),
        (
            {"training": {"optimizer": "Prodigy", "textEncoderLearningRate": "1e-6"}},
            {"training": {"optimizer": "Prodigy", "textEncoderStopStep": 5}},
            NEW_TOKEN
            | {
                "training": INVERSION
                | {"optimizer": "Prodigy", "newTokens": {"learningRate": "5e-3"}}
            },
        ),
    ),
    (
        "training.optimizer",
        "",
        (
            {"training": {"optimizer": "Prodigy"}, "scale": {"workers": 1, "zeroStage": 2}},
            {
                "training": {"optimizer": "Prodigy"},
                "scale": {"workers": 2, "zeroStage": 0, "precision": "FP32"},
            },
            {"scale": {"workers": 2, "zeroStage": 2}},
        ),
        (
            {"training": {"optimizer": "Prodigy"}, "scale": {"workers": 1, "zeroStage": 3}},
            {
                "training": {"optimizer": "Prodigy"},
                "scale": {"workers": 2, "zeroStage": 1, "precision": "FP32"},
            },
            {
                "training": {"optimizer": "Prodigy"},
                "scale": {"workers": 2, "zeroStage": 0, "precision": "BF16"},
            },
        ),
    ),
    (
        "training.optimizer",
        "",
        (
            {"training": {"optimizer": "AdamW8bit"}, "scale": {"zeroStage": 2}},
            {"training": {"optimizer": "AdamW"}, "scale": {"zeroStage": 3}},
        ),
        ({"training": {"optimizer": "AdamW8bit"}, "scale": {"zeroStage": 3}},),
    ),
    (
        "training.ema.decay",
        "training.ema",
        ({}, {"decay": "0.9999"}, {"decay": "1e-3"}),
        ({"decay": "0"}, {"decay": "1"}, {"decay": "1.0"}),
    ),
    ("training.snrGamma", "training.snrGamma", ("5.0", "100"), ("0", "101")),
    ("training.noiseOffset", "training.noiseOffset", ("0", "1"), ("1.1",)),
    (
        "training.textEncoderLearningRate",
        "training.textEncoderLearningRate",
        ("1e-6", "1"),
        ("0", "2"),
    ),
    (
        "training.trainTextEncoder",
        "training",
        (
            {"trainTextEncoder": False},
            {"trainTextEncoder": True, "textEncoderStopStep": 5},
        ),
        (
            {"trainTextEncoder": False, "textEncoderStopStep": 5},
            {"trainTextEncoder": False, "textEncoderLearningRate": "1e-6"},
        ),
    ),
    (
        "training.trainTextEncoder",
        "",
        (NEW_TOKEN | {"training": INVERSION}, {"training": {"method": "LoRA"}}),
        (NEW_TOKEN | {"training": {"method": "TextualInversion"}},),
    ),
    (
        "training.lora",
        "training",
        ({"method": "LoRA"}, {"method": "LoRA", "lora": {"rank": 4}}, {"method": "Full"}),
        ({"method": "Full", "lora": {}}, {"lora": {"rank": 4}}),
    ),
    (
        "training.newTokens",
        "",
        (
            NEW_TOKEN | {"training": {"method": "LoRA", "newTokens": {}}},
            NEW_TOKEN | {"training": INVERSION | {"newTokens": {"vectors": 2}}},
        ),
        (NEW_TOKEN | {"training": {"newTokens": {}}}, {"training": {"newTokens": {}}}),
    ),
    (
        "training.newTokens.learningRate",
        "",
        (NEW_TOKEN | {"training": INVERSION | {"newTokens": {"learningRate": "5e-3"}}},),
        tuple(
            NEW_TOKEN | {"training": {"method": "LoRA", "newTokens": {"learningRate": rate}}}
            for rate in ("0", "1.5")
        ),
    ),
    (
        "subject.identifier",
        "training",
        ({"method": "LoRA"},),
        (INVERSION, {"method": "LoRA", "newTokens": {}}),
    ),
    (
        "output.kohyaKeys",
        "",
        ({"training": {"method": "LoRA"}, "output": {"kohyaKeys": True}},),
        ({"output": {"kohyaKeys": True}},),
    ),
    ("priorPreservation.weight", "priorPreservation.weight", ("0", "100", "1e2"), ("100.1", "1e3")),
    (
        "priorPreservation.guidanceScale",
        "priorPreservation.guidanceScale",
        ("1", "1.0", "30", "3e1"),
        ("0.99", "0", "30.5", "31"),
    ),
    (
        "scale.precision",
        "scale",
        ({"gpusPerWorker": 0, "precision": "BF16"}, {"gpusPerWorker": 1, "precision": "FP16"}),
        ({"gpusPerWorker": 0, "precision": "FP16"}, {"gpusPerWorker": 0}),
    ),
    (
        "scale.zeroStage",
        "",
        (
            {"scale": {"zeroStage": 3}},
            {"scale": {"zeroStage": 2}, "training": {"method": "LoRA"}},
        ),
        ({"scale": {"zeroStage": 3}, "training": {"method": "LoRA"}},),
    ),
    (
        "scale.offload",
        "scale",
        ({"offload": "CPU", "zeroStage": 1}, {"offload": "None", "zeroStage": 0}),
        ({"offload": "CPU", "zeroStage": 0},),
    ),
)

CHANGES = {
    "baseModel.uri": "file:elsewhere",
    "subject.kind": "Object",
    "subject.identifier": "zwx",
    "subject.classNoun": "cat",
    "subject.images": {"configMap": "rex-photos"},
    "subject.consent": CONSENT,
    "priorPreservation.weight": "0.5",
    "training.maxSteps": 801,
    "training.learningRate": "4e-6",
    "scale.workers": 2,
    "checkpoint.keep": 4,
    "validation": {"prompts": ["a photo of sks dog"]},
    "pods": {"cpu": "4"},
    "output.uri": "pvc://others",
    "output.precision": "FP32",
    "output.kohyaKeys": True,
}
ALLOWED = {
    "runPolicy.suspend": True,
    "runPolicy.backoffLimit": 0,
    "runPolicy.ttlSecondsAfterFinished": 60,
    "output.deletionPolicy": "Delete",
}


def changed(job, path, value):
    """A copy of a job with one value of its spec set; an object is merged unless it is images.

    An empty path sets values in the sections that the value names.
    """
    job = copy.deepcopy(job)
    if not path:
        for section, fields in value.items():
            job = changed(job, section, fields)
        return job
    *parents, last = path.split(".")
    target = job["spec"]
    for name in parents:
        target = target.setdefault(name, {})
    if isinstance(value, dict) and last != "images":
        target.setdefault(last, {}).update(value)
    else:
        target[last] = value
    return job


def spec_of(job):
    return PersonalizationJobSpec.model_validate_json(json.dumps(job["spec"]))


def rows(position):
    return [
        pytest.param(case[0], case[1], value, id=f"{case[0]}-{number}")
        for case in CASES
        for number, value in enumerate(case[position])
    ]


def broken(apiserver, job, rules, old=None):
    """Fields of the rules whose CEL does not hold for a stored job."""
    spec = apiserver.stored(job)["spec"]
    before = apiserver.stored(old)["spec"] if old else {}
    values = {"self": spec, "oldSelf": before}
    return [rule.field for rule in rules if cel.evaluate(rule.cel, values) is not True]


def test_every_rule_has_objects_that_pass_and_that_fail():
    assert {case[0] for case in CASES} == {rule.field for rule in SPEC_RULES}
    assert all(passing and failing for _, _, passing, failing in CASES)


@pytest.mark.parametrize(("field", "path", "value"), rows(2))
def test_a_passing_object_passes_cel_and_python(apiserver, small_job, field, path, value):
    job = changed(small_job, path, value)
    assert broken(apiserver, job, SPEC_RULES) == []
    assert parse_job(job)


@pytest.mark.parametrize(("field", "path", "value"), rows(3))
def test_a_failing_object_breaks_the_same_rule_in_cel_and_python(
    apiserver, small_job, field, path, value
):
    job = changed(small_job, path, value)
    assert broken(apiserver, job, SPEC_RULES) == [field]
    with pytest.raises(JobFileError) as error:
        parse_job(job)
    assert [problem.field for problem in error.value.problems] == [f"spec.{field}"]


def test_all_broken_rules_are_named_at_once(apiserver, small_job):
    job = changed(small_job, "scale", {"gpusPerWorker": 0, "offload": "CPU", "zeroStage": 0})
    job = changed(job, "priorPreservation.weight", "101")
    with pytest.raises(JobFileError) as error:
        parse_job(job)
    fields = [problem.field.removeprefix("spec.") for problem in error.value.problems]
    assert fields == broken(apiserver, job, SPEC_RULES)
    assert len(fields) == 3


@pytest.mark.parametrize(
    ("name", "accepted"),
    [("r", True), ("r" * 40, True), ("r" * 41, False), ("rex.2", False), ("rex-2", True)],
)
def test_the_name_has_at_most_40_characters_and_no_point(small_job, name, accepted):
    small_job["metadata"]["name"] = name
    assert all(cel.evaluate(rule.cel, {"self": small_job}) for rule in NAME_RULES) is accepted
    try:
        parsed = parse_job(small_job)
    except JobFileError:
        parsed = None
    assert isinstance(parsed, PersonalizationJob) is accepted


@pytest.fixture
def lora_job(small_job):
    """A job in which every field may be set."""
    return changed(small_job, "training.method", "LoRA")


@pytest.mark.parametrize("path", CHANGES)
def test_a_change_of_the_spec_is_refused_and_named(apiserver, lora_job, path):
    new = changed(lora_job, path, CHANGES[path])
    blamed = broken(apiserver, new, TRANSITION_RULES, old=lora_job)
    assert len(blamed) == 1
    assert path.startswith(blamed[0])
    paths = changed_fields(spec_of(lora_job), spec_of(new))
    assert paths
    assert all(field.startswith(f"spec.{path}") for field in paths)


@pytest.mark.parametrize("path", CHANGES)
def test_taking_something_away_is_a_change_too(apiserver, lora_job, path):
    old = changed(lora_job, path, CHANGES[path])
    assert len(broken(apiserver, lora_job, TRANSITION_RULES, old=old)) == 1
    assert changed_fields(spec_of(old), spec_of(lora_job))


@pytest.mark.parametrize("path", ALLOWED)
def test_the_run_policy_and_the_deletion_policy_may_change(apiserver, small_job, path):
    new = changed(small_job, path, ALLOWED[path])
    assert broken(apiserver, new, TRANSITION_RULES, old=small_job) == []
    assert changed_fields(spec_of(small_job), spec_of(new)) == []


def test_every_transition_rule_is_tried():
    tried = {
        rule.field for rule in TRANSITION_RULES for path in CHANGES if path.startswith(rule.field)
    }
    assert tried == {rule.field for rule in TRANSITION_RULES}


def test_a_default_written_out_is_no_change(apiserver, small_job):
    new = changed(small_job, "training", {"maxSteps": 800, "learningRate": "5e-6"})
    assert broken(apiserver, new, TRANSITION_RULES, old=small_job) == []
    assert changed_fields(spec_of(small_job), spec_of(new)) == []


def test_every_rule_says_what_is_wrong_and_what_to_do():
    for rule in (*NAME_RULES, *SPEC_RULES, *TRANSITION_RULES):
        wrong, colon, fix = rule.message.partition(": ")
        assert all((wrong, colon, fix)), rule


def test_the_rules_of_the_crd_are_those_of_the_table(apiserver):
    spec_rules = apiserver.schema["properties"]["spec"]["x-kubernetes-validations"]
    expected = [
        (rule.cel, rule.message, f".{rule.field}") for rule in SPEC_RULES + TRANSITION_RULES
    ]
    assert [(rule["rule"], rule["message"], rule["fieldPath"]) for rule in spec_rules] == expected
    root_rules = apiserver.schema["x-kubernetes-validations"]
    assert [rule["rule"] for rule in root_rules] == [rule.cel for rule in NAME_RULES]


@pytest.mark.parametrize(
    ("kind", "prompt"),
    [
        ("Object", "a photo of sks drawing"),
        ("Animal", "a photo of sks drawing"),
        ("Style", "a photo of a drawing in the style of sks"),
    ],
)
def test_a_style_has_a_prompt_of_its_own_and_the_class_stays_ordinary(small_job, kind, prompt):
    small_job["spec"]["subject"] |= {"kind": kind, "identifier": "sks", "classNoun": "drawing"}
    subject = parse_job(small_job).spec.subject
    assert subject.instance_prompt == prompt
    assert subject.class_prompt == "a photo of a drawing"
