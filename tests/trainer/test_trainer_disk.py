"""The plan asks the disk: what can't be written, or has no room, is refused before anything starts."""

import errno
import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from darkroom_api.status import Reason
from darkroom_trainer.driver.disk import (
    Load,
    Target,
    Volume,
    refuse_lack_of_room,
    refuse_unwritable,
    volume_at,
)
from darkroom_trainer.driver.run import RunOptions, prepare
from darkroom_trainer.driver.sizes import checkpoints_to_write, in_words
from darkroom_trainer.errors import TrainerError

MIB = 1 << 20


def refusal(path, **options):
    target = Target(field="--work-dir", path=path, fix="choose another", **options)
    with pytest.raises(TrainerError) as caught:
        refuse_unwritable([target])
    assert caught.value.reason is Reason.FOLDER_UNUSABLE
    assert caught.value.fix == "choose another"
    return caught.value.message


@pytest.fixture
def as_somebody_else():
    """Makes this process one that may not write everywhere."""
    if os.geteuid() == 0:
        os.seteuid(65534)
        yield
        os.seteuid(0)
    else:
        yield


@pytest.fixture
def mounted(tmp_path):
    """Runs code with a file system of 8 MiB at `folder`, mounted in a namespace of its own."""
    folder = tmp_path / "mounted"
    folder.mkdir()

    def run(options, code):
        mount = f"mount -t tmpfs -o size=8m,{options} tmpfs {folder} || exit 99"
        inside = f'{mount}; exec {sys.executable} -c "$0"'
        code = f"from pathlib import Path; folder = Path({str(folder)!r})\n{code}"
        command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", inside, code]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode in (1, 99) and "Traceback" not in done.stderr:
            pytest.skip(f"this machine mounts nothing for us: {done.stderr.strip()}")
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare")
    return run


def test_a_folder_that_can_be_made_is_left_as_it_was(tmp_path):
    refuse_unwritable([Target(field="", path=tmp_path / "a" / "b", fix="", locks=True)])
    assert list(tmp_path.iterdir()) == []


def test_a_read_only_mount_is_refused_with_its_path(mounted, tmp_path):
    code = """
from darkroom_trainer.driver.disk import Target, refuse_unwritable
try:
    refuse_unwritable([Target(field='--work-dir', path=folder / 'work', fix='choose another')])
except ValueError as error:
    print(error)
"""
    assert mounted("ro", code) == (
        f"--work-dir: {tmp_path}/mounted is on a read-only file system; choose another"
    )


def test_a_folder_whose_place_a_file_has_is_refused(tmp_path):
    (tmp_path / "work").write_text("notes")
    for path in (tmp_path / "work", tmp_path / "work" / "default" / "rex"):
        assert refusal(path) == f"--work-dir: {tmp_path}/work is a file, not a folder"


def test_a_folder_of_somebody_else_is_refused_with_both_users(tmp_path, as_somebody_else):
    assert refusal(Path("/etc/work")) == (
        "--work-dir: /etc can't be written: it belongs to user 0 (mode 755) and this process runs"
        f" as user {os.geteuid()}"
    )


def test_a_file_that_somebody_else_left_is_refused(tmp_path, as_somebody_else):
    assert "can't be written: it belongs to user 0" in refusal(Path("/etc/passwd"), is_file=True)


def test_a_name_that_is_too_long_is_refused_and_a_deep_path_is_not(tmp_path):
    assert "--work-dir: its path is too long (" in refusal(tmp_path / "absent" / ("x" * 300))
    assert "--work-dir: its path is too long (" in refusal(tmp_path.joinpath(*["deep"] * 1000))
    refuse_unwritable([Target(field="", path=tmp_path.joinpath(*["deep"] * 60), fix="")])


def test_links_that_go_in_a_circle_are_refused(tmp_path):
    (tmp_path / "work").symlink_to(tmp_path / "work")
    assert "Too many levels of symbolic links" in refusal(tmp_path / "work" / "default")


def test_a_file_system_without_locks_is_refused(tmp_path, monkeypatch):
    def refuse(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert "has no file locks, which keep two runs of a job apart" in refusal(tmp_path, locks=True)
    refuse_unwritable([Target(field="", path=tmp_path, fix="")])


def loads(tmp_path, *sizes):
    return [
        Load(what=f"thing {n}", path=tmp_path / f"{n}", size_bytes=size * MIB)
        for n, size in enumerate(sizes)
    ]


def test_what_is_on_one_file_system_is_counted_together(tmp_path):
    def both(path):
        return Volume(device=1, free_bytes=100 * MIB)

    refuse_lack_of_room(loads(tmp_path, 60, 40), both)
    with pytest.raises(TrainerError) as caught:
        refuse_lack_of_room(loads(tmp_path, 60, 41), both)
    assert caught.value.reason is Reason.DISK_FULL
    assert caught.value.message == (
        f"{tmp_path}/0 and {tmp_path}/1: this run writes 101.0 MiB there (thing 0, thing 1)"
        " and 100.0 MiB are free"
    )
    assert caught.value.fix.startswith("free 1.0 MiB there, lower spec.checkpoint.keep")


def test_each_file_system_has_room_of_its_own(tmp_path):
    def own(path):
        return Volume(device=int(path.name), free_bytes=100 * MIB)

    refuse_lack_of_room(loads(tmp_path, 60, 60), own)
    with pytest.raises(TrainerError, match=r"/1: this run writes 120\.0 MiB there \(thing 1\)"):
        refuse_lack_of_room(loads(tmp_path, 60, 120), own)


def test_a_file_system_that_does_not_tell_its_size_is_trusted(tmp_path):
    refuse_lack_of_room(loads(tmp_path, 1 << 30), lambda path: None)


def test_a_folder_that_is_not_there_yet_is_on_the_file_system_of_the_one_above(tmp_path, mounted):
    assert volume_at(tmp_path / "a" / "b").device == tmp_path.stat().st_dev
    code = "from darkroom_trainer.driver.disk import volume_at; print(volume_at(folder / 'a').free_bytes)"
    assert mounted("rw", code) == str(8 * MIB)


@pytest.mark.parametrize(
    ("steps", "every", "first", "number"),
    [(300, 100, 0, 3), (300, 150, 0, 2), (301, 100, 0, 4), (4, 50, 0, 1), (300, 100, 250, 1)],
)
def test_a_checkpoint_is_written_at_each_interval_and_at_the_end(
    make_job, tmp_path, steps, every, first, number
):
    job = make_job(tmp_path, training={"maxSteps": steps}, checkpoint={"everySteps": every})
    assert checkpoints_to_write(job, first) == number
    assert checkpoints_to_write(job, steps) == 0


def test_a_run_without_room_is_refused_by_the_numbers_and_leaves_nothing(
    make_job, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        "darkroom_trainer.driver.disk.volume_at", lambda path: Volume(device=1, free_bytes=3 * MIB)
    )
    job = make_job(tmp_path, checkpoint={"everySteps": 1, "keep": 2})
    with pytest.raises(TrainerError, match=r"writes 7\.. MiB there") as caught:
        prepare(job, RunOptions(job_folder=tmp_path, work_dir=tmp_path / "work"))
    assert "(3 checkpoints of 2.0 MiB, class images of 4.0 KiB, a model of 1." in str(caught.value)
    assert "and 3.0 MiB are free; free 4." in str(caught.value)
    assert not (tmp_path / "work").exists()


def test_an_output_that_is_a_file_is_refused_before_the_base_model_is_looked_for(
    make_job, tmp_path
):
    (tmp_path / "models").touch()
    job = make_job(tmp_path, baseModel={"uri": "file:absent"})
    with pytest.raises(TrainerError, match=r"spec\.output\.uri: .*/models is a file"):
        prepare(job, RunOptions(job_folder=tmp_path, work_dir=tmp_path / "work"))


@pytest.mark.parametrize(
    ("size", "words"), [(4096, "4.0 KiB"), (78 * MIB, "78.0 MiB"), (10 << 30, "10.0 GiB")]
)
def test_sizes_are_said_as_people_read_them(size, words):
    assert in_words(size) == words
