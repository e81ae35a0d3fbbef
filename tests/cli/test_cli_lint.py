"""`darkroom lint`: every problem with its field and its fix."""

import json


def test_a_valid_job_is_ok(valid_job, tmp_path, darkroom):
    (tmp_path / "photos").mkdir()
    result = darkroom("lint", valid_job)
    assert result.exit_code == 0
    assert result.stdout == f"{valid_job}: ok\n"
    assert result.stderr == ""


def test_every_problem_is_a_line_with_field_and_fix(valid_job, darkroom):
    text = valid_job.read_text()
    text = text.replace("maxSteps: 300", "maxStep: 300").replace('"3e-4"', "3e-4")
    valid_job.write_text(text.replace("workers: 1", "workers: 0"))
    result = darkroom("lint", valid_job)
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert len(lines) == 3
    assert all(line.startswith(f"{valid_job}: spec.") and "; " in line for line in lines)
    assert any("maxStep: unknown field; did you mean maxSteps?" in line for line in lines)
    assert any("spec.scale.workers: must be at least 1" in line for line in lines)
    assert result.stdout == ""


def test_captions_and_junk_beside_photos_are_looked_at(valid_job, tmp_path, darkroom):
    photos = tmp_path / "photos"
    (photos / "old").mkdir(parents=True)
    for name in ("a.txt", "b.txt", "Thumbs.db", "b.jpg"):
        (photos / name).write_bytes(b"sks dog")
    result = darkroom("lint", valid_job)
    assert result.exit_code == 1
    assert result.stderr == (
        f"{valid_job}: spec.subject.images: a.txt is the caption of a picture that is not there;"
        " add the picture, or take the caption away\n"
    )
    (photos / "a.txt").unlink()
    result = darkroom("lint", valid_job, "--json")
    assert result.exit_code == 0
    findings = json.loads(result.stdout)
    assert [one["message"] for one in findings] == [
        "1 file beside the photos is ignored: Thumbs.db",
        '1 sub-folder is not read: old; only those named as in "10_sks dog" are (repeats, caption)',
    ]
    assert {one["severity"] for one in findings} == {"warning"}


def test_one_bad_file_does_not_hide_the_others(valid_job, tmp_path, darkroom):
    broken = tmp_path / "broken.yaml"
    broken.write_text("spec: [")
    result = darkroom("lint", broken, valid_job, tmp_path / "absent.yaml")
    assert result.exit_code == 1
    assert f"{broken}: broken YAML at line 1" in result.stderr
    assert "absent.yaml: does not exist; write one with: darkroom init" in result.stderr
    assert f"{valid_job}: ok" in result.stdout


def test_photos_that_are_not_there_are_a_warning(valid_job, tmp_path, darkroom):
    result = darkroom("lint", valid_job)
    assert result.exit_code == 0
    assert result.stderr == (
        f"{valid_job}: warning: spec.subject.images.uri: there is no folder {tmp_path / 'photos'};"
        " create it, or correct the path, which is relative to the job file\n"
    )


def test_a_folder_whose_name_is_too_long_is_not_there(valid_job, darkroom):
    name = "x" * 300
    valid_job.write_text(valid_job.read_text().replace("file:photos", f"file:{name}"))
    result = darkroom("lint", valid_job)
    assert result.exit_code == 0
    assert f"/{name}; create it" in result.stderr


def test_json_for_programs(valid_job, darkroom):
    valid_job.write_text(valid_job.read_text().replace("maxSteps: 300", "maxSteps: 0"))
    result = darkroom("lint", valid_job, "--json")
    assert result.exit_code == 1
    (finding,) = json.loads(result.stdout)
    assert finding["field"] == "spec.training.maxSteps"
    assert finding["severity"] == "error"
    assert finding["fix"]


def test_a_consent_that_ended_and_what_is_not_available_yet_are_errors(valid_job, darkroom):
    consent = 'consent: {recordRef: {name: ada}, expires: "2020-01-01T00:00:00Z"}'
    text = valid_job.read_text().replace("    images:", f"    {consent}\n    images:")
    text = text.replace("kind: Animal", "kind: Person").replace(
        "builtin:miniature", "s3://bucket/sd"
    )
    valid_job.write_text(text)
    result = darkroom("lint", valid_job)
    assert result.exit_code == 1
    base, ended, _ = result.stderr.splitlines()
    assert "spec.baseModel.uri: s3://bucket/sd is not available yet; copy it to a volume" in base
    assert "spec.subject.consent.expires: the consent ended at 2020-01-01T00:00:00Z; ask" in ended


def test_the_examples_are_clean(darkroom, request):
    examples = sorted((request.config.rootpath / "examples").glob("*.yaml"))
    assert len(examples) >= 2
    result = darkroom("lint", *examples)
    assert result.exit_code == 0, result.stderr


def test_the_base_model_and_how_it_reads_the_words_are_looked_at(valid_job, tmp_path, darkroom):
    (tmp_path / "photos").mkdir()
    valid_job.write_text(valid_job.read_text().replace("identifier: sks", "identifier: red"))
    result = darkroom("lint", valid_job)
    assert result.exit_code == 0
    assert result.stderr.startswith(
        f"{valid_job}: warning: spec.subject.identifier: the base model knows the word red (nearest"
    )
    assert len(result.stderr.splitlines()) == 1


def test_a_base_model_that_can_not_be_trained_is_an_error(valid_job, tmp_path, darkroom):
    for name in ("photos", "sd"):
        (tmp_path / name).mkdir()
    valid_job.write_text(valid_job.read_text().replace("builtin:miniature", "file:sd"))
    result = darkroom("lint", valid_job, "--json")
    assert result.exit_code == 1
    (finding,) = json.loads(result.stdout)
    assert finding["field"] == "spec.baseModel.uri"
    assert finding["message"].endswith("/sd has no model_index.json")
