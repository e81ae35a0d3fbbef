"""hack/loss_compare.py says whether two trainings are the same, and where they part."""

import json
from dataclasses import replace

import pytest

from darkroom_api.job import PersonalizationJob


@pytest.fixture(scope="module")
def loss_compare(load_script):
    return load_script("hack/loss_compare.py")


@pytest.fixture
def run(loss_compare):
    steps = {step: (1.5 / step, 1.0, 0.5, 2.0) for step in (5, 10, 15)}
    return loss_compare.Run(steps, "d" * 64, {"unet": "u" * 64, "README.md": "r" * 64})


def test_the_same_losses_and_bytes_are_the_same(loss_compare, run):
    assert loss_compare.compare(run, replace(run)) == loss_compare.Verdict(
        True, "same losses, same digest"
    )


def test_trainings_part_where_the_last_bit_of_any_value_does(loss_compare, run):
    for place in range(4):
        other = list(run.steps[10])
        other[place] *= 1 + 2**-24
        new = replace(run, steps=run.steps | {10: tuple(other)}, digest="e" * 64)
        verdict = loss_compare.compare(run, new)
        assert verdict == loss_compare.Verdict(False, "they part after step 5, by step 10")


def test_the_same_losses_with_other_bytes_name_the_files(loss_compare, run):
    new = replace(run, digest="e" * 64, files={"unet": "u" * 64, "README.md": "x", "new": "n"})
    verdict = loss_compare.compare(run, new)
    assert verdict == loss_compare.Verdict(False, "same losses, another digest: README.md, new")


def test_only_steps_that_both_have_logged_are_compared(loss_compare, run):
    new = replace(run, steps={1: (9.0,) * 4} | run.steps)
    assert loss_compare.compare(run, new).same
    none = replace(run, steps={1: (9.0,) * 4})
    assert loss_compare.compare(run, none).text == "no step is logged in both"


def test_the_table_has_a_line_a_step_with_both_sides(loss_compare, run):
    head, *rows, digest = loss_compare.table(run, replace(run, steps={10: run.steps[10]}))
    assert head.split().count("grad_norm") == 2
    assert [row.split()[0] for row in rows] == ["5", "10", "15"]
    assert rows[0].endswith("|")
    left, right = rows[1].split("|")
    assert left.split()[1:] == right.split() == ["0.15", "1", "0.5", "2"]
    assert digest.split() == ["digest", "d" * 12, "|", "d" * 12]


def test_all_jobs_are_valid_and_have_the_same_batch(loss_compare):
    jobs = [
        PersonalizationJob.model_validate_json(json.dumps(loss_compare.job("tiny", stage, 20)))
        for stage in loss_compare.WORKERS
    ]
    assert [job.spec.scale.zero_stage for job in jobs] == [0, 2]
    assert len({job.spec.global_batch_size for job in jobs}) == 1


def test_code_of_a_checkout_comes_before_what_is_installed(loss_compare, tmp_path, monkeypatch):
    monkeypatch.setenv("DARKROOM_BUILTIN_DIR", "elsewhere")
    (tmp_path / "trainer" / "darkroom_trainer").mkdir(parents=True)
    (tmp_path / "trainer" / "darkroom_trainer" / "__init__.py").write_text("print('own')")
    assert "DARKROOM_BUILTIN_DIR" not in loss_compare.environment(tmp_path)
    assert loss_compare._python(tmp_path, tmp_path, "-c", "import darkroom_trainer") == "own\n"


def test_a_training_that_fails_is_told_in_its_own_words(loss_compare, tmp_path):
    with pytest.raises(SystemExit, match="no such job"):
        loss_compare._python(tmp_path, tmp_path, "-c", "import sys; sys.exit('no such job')")
