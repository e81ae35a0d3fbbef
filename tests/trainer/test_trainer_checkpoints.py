"""A checkpoint exists when it is complete; anything else is passed over, and nothing is lost."""

import errno
import json
import os
import shutil
import tempfile
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkroom_api.artifact import TrainState
from darkroom_api.job import ObjectMeta
from darkroom_trainer.errors import TrainerError
from darkroom_trainer.output import checkpoint

OWNER = ObjectMeta(name="tiny")
INPUTS = "1" * 64


@pytest.fixture(scope="module")
def spec(make_job, tmp_path_factory):
    return make_job(tmp_path_factory.mktemp("job")).spec


def write_checkpoint(run_folder, spec, step, keep=3, owner=OWNER, **other):
    """Writes the checkpoint of a step as a run does."""
    unfinished = checkpoint.partial_folder(run_folder)
    checkpoint.begin_checkpoint(unfinished, spec)
    (unfinished / "deepspeed" / "weights.pt").write_bytes(bytes(range(256)) * step)
    fields = {"spec_digest": checkpoint.numerics_digest(spec), "inputs_digest": INPUTS}
    state = TrainState(step=step, seed=42, world_size=1, zero_stage=2, **fields | other)
    return checkpoint.finish_checkpoint(unfinished, owner, state, keep)


@pytest.fixture
def write(tmp_path, spec):
    """Writes the checkpoint of a step as a run does."""
    return partial(write_checkpoint, tmp_path, spec)


def newest_step(folder):
    found, warnings = checkpoint.newest_checkpoint(folder, OWNER)
    return (found.state.step if found else None), warnings


def test_the_newest_checkpoint_is_used_and_old_ones_go(tmp_path, write):
    for step in (2, 4, 6, 8):
        write(step, keep=2)
    assert newest_step(tmp_path) == (8, [])
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == [
        "step-00000006",
        "step-00000008",
    ]


DAMAGES = {
    "a flipped bit": lambda f: f.write_bytes(bytes([f.read_bytes()[0] ^ 1]) + f.read_bytes()[1:]),
    "a torn file": lambda f: f.write_bytes(f.read_bytes()[:100]),
    "a missing file": Path.unlink,
    "a missing manifest": lambda f: (f.parents[1] / "manifest.json").unlink(),
    "a torn manifest": lambda f: (f.parents[1] / "manifest.json").write_bytes(b'{"kind": "Che'),
    "an added file": lambda f: f.with_name("added").write_bytes(b""),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(tmp_path, write, damage):
    write(2)
    DAMAGES[damage](write(4) / "deepspeed" / "weights.pt")
    step, warnings = newest_step(tmp_path)
    assert step == 2
    assert len(warnings) == 1
    assert warnings[0].startswith("checkpoint step-00000004 is not used: ")


def test_an_unfinished_checkpoint_does_not_exist(tmp_path, write, spec):
    write(2)
    checkpoint.begin_checkpoint(checkpoint.partial_folder(tmp_path), spec)
    assert newest_step(tmp_path) == (2, [])
    write(3)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        "step-00000002",
        "step-00000003",
    ]


def test_a_damaged_newer_checkpoint_never_pushes_out_a_good_one(tmp_path, write):
    write(4)
    DAMAGES["a torn file"](write(9) / "deepspeed" / "weights.pt")
    write(6, keep=1)
    assert newest_step(tmp_path) == (6, [])


def slower(spec):
    """The same job with another learning rate."""
    training = spec.training.model_copy(update={"learning_rate": "1e-9"})
    return spec.model_copy(update={"training": training})


OTHER = {
    "of another job": {"owner": ObjectMeta(name="other")},
    "of other numerics": {"spec": slower},
    "of other inputs": {"inputs_digest": "3" * 64},
}
SAME = {
    "whole": {},
    # Earlier versions noted numbers as they were typed: another digest, and the same training.
    "of an earlier version": {"spec_digest": "2" * 64},
}
"""From which this training can go on."""


def put(run_folder, spec, step, kind):
    """Puts a checkpoint beside those that are there: whole, of another training, or damaged."""
    fields = dict((OTHER | SAME).get(kind, {}))
    spec = fields.pop("spec", lambda spec: spec)(spec)
    with tempfile.TemporaryDirectory(dir=run_folder) as aside:
        written = write_checkpoint(Path(aside), spec, step, **fields)
        if kind in DAMAGES:
            DAMAGES[kind](written / "deepspeed" / "weights.pt")
        target = checkpoint.checkpoint_folder(run_folder, step)
        target.parent.mkdir(exist_ok=True)
        written.rename(target)


@pytest.mark.parametrize("kind", [*SAME, *OTHER, *DAMAGES])
def test_a_newer_checkpoint_goes_only_if_nobody_can_go_on_from_it(tmp_path, spec, write, kind):
    put(tmp_path, spec, 9, kind)
    write(6, keep=1)
    assert checkpoint.checkpoint_folder(tmp_path, 9).exists() is (kind in SAME)
    assert newest_step(tmp_path) == (9 if kind in SAME else 6, [])


def test_a_newer_checkpoint_that_can_t_be_read_now_stays(tmp_path, write, monkeypatch):
    weights = write(9) / "deepspeed" / "weights.pt"
    read = Path.open

    def broken(self, *arguments, **options):
        if self == weights:
            raise OSError(errno.EIO, "Input/output error", str(self))
        return read(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", broken)
        assert newest_step(tmp_path)[0] is None
        write(6)
        assert newest_step(tmp_path)[0] == 6
    assert newest_step(tmp_path) == (9, [])


def test_a_step_that_is_saved_already_is_not_written_over(tmp_path, write):
    before = write(6).stat().st_ino
    assert write(6).stat().st_ino == before
    assert not checkpoint.partial_folder(tmp_path).exists()
    DAMAGES["a torn file"](checkpoint.checkpoint_folder(tmp_path, 6) / "deepspeed" / "weights.pt")
    write(6)
    assert newest_step(tmp_path) == (6, [])


STEPS = st.integers(1, 12)


@given(
    there=st.dictionaries(STEPS, st.sampled_from([*SAME, *OTHER, *DAMAGES])),
    saved=st.lists(STEPS, min_size=1, max_size=3),
    keep=st.integers(1, 3),
)
@settings(deadline=None, max_examples=50)
def test_whatever_is_on_the_disk_the_newest_checkpoint_of_this_training_survives(
    spec, there, saved, keep
):
    whole = {step for step, kind in there.items() if kind in SAME}
    with tempfile.TemporaryDirectory() as folder:
        for step, kind in there.items():
            put(Path(folder), spec, step, kind)
        for step in saved:
            write_checkpoint(Path(folder), spec, step, keep=keep)
            whole.add(step)
            assert newest_step(Path(folder)) == (max(whole), [])


def test_only_checkpoints_newer_than_a_verified_one_are_read(tmp_path, write, monkeypatch):
    write(2)
    known, _ = checkpoint.newest_checkpoint(tmp_path, OWNER)
    assert checkpoint.newest_checkpoint(tmp_path, OWNER, verified=known) == (known, [])
    write(4)
    DAMAGES["a flipped bit"](write(6) / "deepspeed" / "weights.pt")
    DAMAGES["a torn file"](known.folder / "deepspeed" / "weights.pt")
    found, (warning,) = checkpoint.newest_checkpoint(tmp_path, OWNER, verified=known)
    assert found.state.step == 4
    assert "step-00000006" in warning
    shutil.rmtree(tmp_path / "checkpoints")
    assert checkpoint.newest_checkpoint(tmp_path, OWNER, verified=known) == (known, [])


def test_another_job_s_checkpoint_is_not_used(tmp_path, write):
    write(2)
    other = ObjectMeta(name="other")
    assert checkpoint.newest_checkpoint(tmp_path, other)[0] is None


def test_every_failing_write_leaves_the_checkpoint_before(tmp_path, write, monkeypatch):
    """The disk fills up at each write in turn, from the first to the last."""
    write(2)
    real_write, real_text = Path.write_bytes, Path.write_text
    left = 0

    def limited(real):
        def attempt(self, *arguments, **options):
            nonlocal left
            left -= 1
            if left < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(self, *arguments, **options)

        return attempt

    monkeypatch.setattr(Path, "write_bytes", limited(real_write))
    monkeypatch.setattr(Path, "write_text", limited(real_text))
    failures = 0
    for allowed in range(10):
        left = allowed
        failure = checkpoint.failure_of(lambda: write(4))
        if failure is None:
            break
        failures += 1
        assert failure == "DiskFull"
        assert newest_step(tmp_path)[0] == 2
    assert failures >= 3
    assert newest_step(tmp_path)[0] == 4


def refusal(found, spec, inputs=INPUTS):
    with pytest.raises(TrainerError) as caught:
        checkpoint.refuse_other_run(found, spec, inputs)
    return caught.value


def test_going_on_with_another_training_is_refused_with_the_field(tmp_path, write, make_job):
    write(2)
    found, _ = checkpoint.newest_checkpoint(tmp_path, OWNER)
    changed = make_job(tmp_path, training={"learningRate": "2e-3"}).spec
    error = refusal(found, changed)
    assert error.reason == "SpecChanged"
    assert "spec.training.learningRate: the checkpoint of step 2 was trained with 0.001" in str(
        error
    )
    workers = make_job(tmp_path, scale={"workers": 2}).spec
    assert refusal(found, workers).reason == "WorldSizeChanged"
    same = make_job(tmp_path).spec
    assert refusal(found, same, inputs="2" * 64).reason == "InputsChanged"


def test_a_job_that_is_shorter_than_its_checkpoint_is_refused(tmp_path, write, make_job):
    write(9)
    found, _ = checkpoint.newest_checkpoint(tmp_path, OWNER)
    error = refusal(found, make_job(tmp_path, training={"maxSteps": 8}).spec)
    assert "spec.training.maxSteps: there is a checkpoint of step 9 already" in str(error)


def test_training_longer_or_elsewhere_is_going_on(tmp_path, write, make_job):
    write(2)
    found, _ = checkpoint.newest_checkpoint(tmp_path, OWNER)
    longer = make_job(
        tmp_path / "elsewhere", training={"maxSteps": 99}, checkpoint={"everySteps": 7}
    )
    checkpoint.refuse_other_run(found, longer.spec, INPUTS)


def test_a_falling_learning_rate_is_of_one_number_of_steps(tmp_path, make_job):
    falling = {"learningRateSchedule": "Cosine", "warmupSteps": 1}
    write_checkpoint(tmp_path, make_job(tmp_path, training=falling).spec, 2)
    found, _ = checkpoint.newest_checkpoint(tmp_path, OWNER)
    longer = make_job(tmp_path, training=falling | {"maxSteps": 99}).spec
    assert "spec.training.maxSteps" in str(refusal(found, longer))


@pytest.mark.parametrize("spelt", [{}, {"maxGradNorm": "1", "noiseOffset": "0.0"}])
def test_a_checkpoint_from_before_a_field_was_there_is_continued_by_who_leaves_it_alone(
    tmp_path, write, make_job, spelt
):
    """Literal: what version 0.1.0 wrote of `training`."""
    noted = json.loads((write(2) / checkpoint.NUMERICS_FILE).read_text())
    assert {path for path in noted if path.startswith("training.")} == {
        "training.batchSizePerWorker",
        "training.gradientAccumulationSteps",
        "training.horizontalFlip",
        "training.learningRate",
        "training.method",
        "training.resolution",
        "training.seed",
        "training.trainTextEncoder",
    }
    found, _ = checkpoint.newest_checkpoint(tmp_path, OWNER)
    checkpoint.refuse_other_run(found, make_job(tmp_path, training=spelt).spec, INPUTS)
    other = make_job(tmp_path, training={"noiseOffset": "0.1"}).spec
    assert "spec.training.noiseOffset" in str(refusal(found, other))


def test_the_numerics_are_written_beside_the_state_for_people(tmp_path, write):
    numbers = json.loads((write(2) / checkpoint.NUMERICS_FILE).read_text())
    assert numbers["training.learningRate"] == 0.001
    shutil.rmtree(tmp_path / "checkpoints")
    assert newest_step(tmp_path) == (None, [])


def test_a_clock_that_jumps_backwards_changes_nothing_about_which_checkpoint_is_newest(
    tmp_path, write
):
    for number, step in enumerate((2, 4, 6)):
        folder = write(step, keep=2)
        for path in (folder, *folder.rglob("*")):
            os.utime(path, (1e9 - number, 1e9 - number))
    assert newest_step(tmp_path) == (6, [])
    assert not checkpoint.checkpoint_folder(tmp_path, 2).exists()
