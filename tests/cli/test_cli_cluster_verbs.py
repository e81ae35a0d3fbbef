"""watch, describe, logs, cancel, suspend, resume: against recordings of a real apiserver."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from darkroom.cluster import jobs, states
from darkroom.cluster.jobs import Change
from darkroom.cluster.kubectl import Kubectl, KubectlError
from darkroom.cluster.watch_view import BarView, TableView, Watched, line, row
from darkroom.commands import control
from darkroom_api.load import parse_job
from darkroom_api.status import Reason

GET = "get --output=json personalizationjobs.darkroom.dev"
WATCH = "get --output=json --watch --output-watch-events personalizationjobs.darkroom.dev"
PODS = "get --output=json pods"


@pytest.fixture
def rex(fake_kubectl):
    """The fake knows the job rex, which trains; a file of another state can be set."""
    fake_kubectl.answer(GET, "job-training.json")
    fake_kubectl.answer(WATCH, "watch-rex.json")
    return fake_kubectl


def test_a_watch_of_one_job_prints_lines_and_ends_with_it(rex, darkroom):
    done = darkroom("watch", "rex", "-n", "team-a")
    assert done.exit_code == 1
    assert done.stdout.splitlines() == [
        "rex: Pending, step 0 of 300",
        "rex: Training, step 150 of 300 (50 %), loss 0.1234, 1 min 30 s left: attempt rex-2 trains",
        "rex: LossNotFinite, step 150 of 300 (50 %), loss 0.1234: the loss was NaN at step 151",
    ]
    assert done.stderr == (
        "rex has failed: the loss was NaN at step 151; lower learningRate, or use BF16 or FP32\n"
    )
    assert rex.calls[-1]["line"] == f"{WATCH} rex --namespace=team-a"


def test_a_watch_of_a_good_job_ends_with_its_model(rex, recorded, darkroom):
    job = recorded("job-done")
    rex.answer(WATCH, json.dumps({"type": "ADDED", "object": job}) + "\n")
    done = darkroom("watch", "rex")
    assert done.exit_code == 0
    assert "model: pvc://models/team-a/rex" in done.stdout
    assert "next: draw with the model: darkroom generate" in done.stdout
    done = darkroom("watch", "rex", "--json")
    (said,) = map(json.loads, done.stdout.splitlines())
    assert (said["over"], said["succeeded"], said["percent"]) == (True, True, 100)
    assert said["metrics"] == {"loss": 0.0987}


def test_a_deleted_job_ends_its_watch(rex, recorded, darkroom):
    job = recorded("job-training")
    rex.answer(WATCH, json.dumps({"type": "DELETED", "object": job}, indent=4) + "\n")
    done = darkroom("watch", "rex")
    assert done.exit_code == 1
    assert done.stdout == "rex: deleted\n"
    assert done.stderr == "rex was deleted before it was over\n"


def test_a_watch_that_breaks_is_begun_again(rex, monkeypatch):
    waits = []
    monkeypatch.setattr(jobs.time, "sleep", waits.append)
    text = (Path(__file__).parent / "data/cluster/watch-rex.json").read_text()
    rex.answer(WATCH, text.splitlines(keepends=True)[0], "error: unexpected EOF")
    changes = jobs.Jobs(Kubectl()).follow("rex")
    assert [states.word(next(changes).job) for _ in range(3)] == ["Pending"] * 3
    rex.answer(WATCH, error="error: the connection was refused")
    with pytest.raises(KubectlError, match="refuses connections"):
        next(changes)
    assert waits == [1, 1, 1, 2, 4, 8, 10]


def test_jobs_of_all_namespaces_are_told_apart(rex, recorded, darkroom, monkeypatch):
    job = recorded("job-training")
    twin = job | {"metadata": job["metadata"] | {"namespace": "team-b"}}
    events = [json.dumps({"type": "ADDED", "object": one}) for one in (job, twin, job)]
    rex.answer(WATCH, "\n".join(events) + "\n", "error: unexpected EOF")
    monkeypatch.setattr(jobs, "PATIENCE", 0)
    done = darkroom("watch", "--all-namespaces")
    assert done.exit_code == 1
    assert [one.partition(":")[0] for one in done.stdout.splitlines()] == [
        "team-a/rex",
        "team-b/rex",
    ]
    assert rex.calls[-1]["line"] == f"{WATCH} --all-namespaces"


@pytest.mark.parametrize("more", [("rex",), ("--namespace", "team-a")])
def test_all_namespaces_are_not_one(more, rex, darkroom):
    done = darkroom("watch", "-A", *more)
    assert done.exit_code == 1
    assert done.stderr == "--all-namespaces shows all jobs: leave NAME and --namespace out\n"
    assert rex.calls == []


def test_a_table_shows_all_jobs(recorded):
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    view = TableView(console, Watched.NAMESPACE)
    view.show(Change(parse_job(recorded("job-training"))))
    view.close()
    text = console.file.getvalue()
    assert "name" in text
    assert "150 of 300 (50 %)" in text
    cells = row(parse_job(recorded("job-done")), Watched.NAMESPACE)[:6]
    assert cells == ("rex", "Completed", "300 of 300 (100 %)", "0.0987", "", "2")


def test_a_bar_says_each_new_status(recorded):
    console = Console(file=io.StringIO(), force_terminal=True, width=120, highlight=False)
    view = BarView(console)
    for name in ("job-new", "job-training", "job-failed"):
        view.show(Change(parse_job(recorded(name))))
    view.close()
    text = console.file.getvalue()
    assert "150/300" in text
    assert "the loss was NaN at step 151" in text


def test_describe_says_how_it_is_and_what_to_do(rex, darkroom):
    done = darkroom("describe", "rex")
    assert done.exit_code == 0
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "job rex in namespace team-a" in lines
    assert "status Training: attempt rex-2 trains" in lines
    assert "next wait; STEP and ETA say how long" in lines
    assert "progress step 150 of 300 (50 %), loss 0.1234, 1 min 30 s left" in lines
    assert any(line.startswith("checkpoint step 100, pvc://models/") for line in lines)
    assert "model not published" in lines
    assert "retries 1 of 3 for failures, 0 for preemptions" in lines
    assert "rex-1 0 to 120 2026-11-25T10:01:00Z 3 min NodeLost" in lines
    assert "Accepted yes: the job can run as it is written (SpecAccepted)" in lines
    assert "Succeeded not yet known: attempt rex-2 trains (Training)" in lines


def test_describe_prints_the_object_for_programs(rex, darkroom):
    done = darkroom("describe", "rex", "--json")
    assert json.loads(done.stdout)["metadata"]["name"] == "rex"


def test_a_failed_checkpoint_is_told_while_the_job_goes_on(rex, recorded, darkroom):
    text = "no room on pvc://models"
    job = recorded("job-training")
    (saved,) = (one for one in job["status"]["conditions"] if one["type"] == "Checkpointed")
    saved |= {"status": "False", "reason": "CheckpointFailed", "message": text}
    rex.answer(GET, json.dumps(job))
    rex.answer("patch", json.dumps(job))
    lines = [" ".join(line.split()) for line in darkroom("describe", "rex").stdout.splitlines()]
    told = "; ".join((f"the newest could not be written: {text}", Reason.CHECKPOINT_FAILED.hint))
    assert f"checkpoint step 100, pvc://models/.darkroom/team-a/rex/checkpoints/100; {told}" in (
        " ".join(lines)
    )
    parsed = parse_job(job)
    assert row(parsed, Watched.NAMESPACE)[1] == "Training (CheckpointFailed)"
    assert line(Change(parsed), Watched.ONE).endswith(f": attempt rex-2 trains; {text}")
    assert states.snapshot(parsed)["checkpoint_failure"] == text
    assert darkroom("suspend", "rex").stdout == (
        f"rex stops, but its last checkpoint failed ({text}): if the next one does too,"
        " darkroom resume rex continues from step 100\n"
    )
    summary = next(one for one in job["status"]["conditions"] if one["type"] == "Succeeded")
    summary |= {"status": "False", "reason": "DiskFull"}
    assert states.unsaved(parse_job(job)) is None


def test_logs_are_those_of_the_newest_attempt(rex, darkroom):
    rex.answer(PODS, json.dumps({"items": [{}]}))
    rex.answer("logs", "[pod/rex-2-head/ray-head] step 1\n")
    done = darkroom("logs", "rex", "-f")
    assert done.stdout == "[pod/rex-2-head/ray-head] step 1\n"
    line = rex.calls[-1]["line"]
    assert "--selector=darkroom.dev/job=rex,darkroom.dev/attempt=rex-2 " in line
    assert line.endswith("--follow")


def test_logs_that_are_not_there_are_explained(rex, darkroom):
    rex.answer(PODS, json.dumps({"items": []}))
    done = darkroom("logs", "rex")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "attempt rex-2 has no pods now; see how it is: darkroom describe rex" in done.stderr
    rex.answer(GET, "job-new.json")
    assert "rex has no attempt yet" in darkroom("logs", "rex").stderr


def test_suspend_and_resume_say_what_happens_next(rex, recorded, darkroom):
    rex.answer("patch", "job-training.json")
    done = darkroom("suspend", "rex")
    assert done.stdout == (
        "rex saves a checkpoint and stops (it is at step 150 of 300 (50 %));"
        " to continue from there: darkroom resume rex\n"
    )
    assert '--patch={"spec": {"runPolicy": {"suspend": true}}}' in rex.calls[-1]["line"]
    assert "rex is not suspended" in darkroom("resume", "rex").stderr
    job = recorded("job-training")
    job["spec"]["runPolicy"]["suspend"] = True
    rex.answer(GET, json.dumps(job))
    done = darkroom("resume", "rex")
    assert "rex continues from step 100 of 300 in a new attempt" in done.stdout
    assert "rex is suspended already" in darkroom("suspend", "rex").stderr


@pytest.mark.parametrize("verb", ["suspend", "resume"])
def test_a_job_that_is_over_can_not_be_suspended(verb, rex, darkroom):
    rex.answer(GET, "job-done.json")
    done = darkroom(verb, "rex")
    assert done.exit_code == 1
    assert "rex is over (Completed)" in done.stderr


def test_cancel_asks(rex, darkroom, monkeypatch):
    rex.answer("delete")
    assert darkroom("cancel", "rex").exit_code == 2
    monkeypatch.setattr(control, "has_terminal", lambda: True)
    done = darkroom("cancel", "rex", input="n\n")
    assert done.exit_code != 0
    assert "what it wrote to pvc://models stays" in done.stderr
    assert not any(call["line"].startswith("delete") for call in rex.calls)
    assert darkroom("cancel", "rex", input="y\n").exit_code == 0
    assert darkroom("cancel", "rex", "--yes").exit_code == 0
    line = rex.calls[-1]["line"]
    assert line == "delete personalizationjobs.darkroom.dev rex --wait=false"


def test_cancel_says_what_goes(recorded):
    stays = "what it wrote to pvc://models stays"
    stop = f"its pods save a checkpoint and stop; {stays}"
    assert states.after_cancel(parse_job(recorded("job-training"))) == stop
    assert states.after_cancel(parse_job(recorded("job-done"))) == stays
    job = recorded("job-training", spec={"output": {"deletionPolicy": "Delete"}})
    assert states.after_cancel(parse_job(job)) == "what it wrote is removed from pvc://models"


def test_a_missing_kubectl_is_said(tmp_path, monkeypatch, darkroom):
    monkeypatch.setenv("PATH", str(tmp_path))
    done = darkroom("watch")
    assert done.exit_code == 1
    assert "kubectl is not installed; get it from https://kubernetes.io/docs/tasks/" in done.stderr


def test_as_a_plugin_it_goes_by_the_name_of_one():
    code = "import sys; sys.argv = ['/bin/kubectl-darkroom', 'watch', '--help']"
    code += "; from darkroom.main import main; main()"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.startswith("Usage: kubectl darkroom watch")
