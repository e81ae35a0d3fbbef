"""A checkpoint exists when it is complete; anything else is passed over, and nothing is lost."""

import errno
import json
import shutil
from pathlib import Path

import pytest

from darkroom_api.artifact import TrainState
from darkroom_api.job import ObjectMeta
from darkroom_trainer import checkpoint
from darkroom_trainer.errors import TrainerError

OWNER = ObjectMeta(name="tiny")
INPUTS = "1" * 64


@pytest.fixture
def spec(make_job, tmp_path):
    return make_job(tmp_path).spec


@pytest.fixture
def write(tmp_path, spec):
    """Writes the checkpoint of a step as a run does."""

    def build(step, keep=3):
        partial = checkpoint.partial_folder(tmp_path)
        checkpoint.begin_checkpoint(partial, spec)
        (partial / "deepspeed" / "weights.pt").write_bytes(bytes(range(256)) * step)
        state = TrainState(
            step=step,
            seed=42,
            world_size=1,
            zero_stage=2,
            spec_digest=checkpoint.numerics_digest(spec),
            inputs_digest=INPUTS,
        )
        return checkpoint.finish_checkpoint(partial, OWNER, state, keep)

    return build


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
    assert "spec.training.learningRate: the checkpoint of step 2 was trained with '1e-3'" in str(
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


def test_the_numerics_are_written_beside_the_state_for_people(tmp_path, write):
    numbers = json.loads((write(2) / checkpoint.NUMERICS_FILE).read_text())
    assert numbers["training.learningRate"] == "1e-3"
    shutil.rmtree(tmp_path / "checkpoints")
    assert newest_step(tmp_path) == (None, [])
