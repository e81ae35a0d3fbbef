"""Jobs that are being deleted: what every verb says of them, and what becomes of their photos."""

import json

import pytest

GET = "get --output=json personalizationjobs.darkroom.dev"
WATCH = "get --output=json --watch --output-watch-events personalizationjobs.darkroom.dev"
CONFIG_MAP = "get --output=json configmap rex-photos"
SINCE = "2026-11-25T10:30:00Z"
UID = "5cb04072-0041-4109-b003-f4ff72679401"


@pytest.fixture
def going(recorded):
    """The job rex while it is deleted; what the operator says of it can be given."""

    def build(name="job-training", said=None, **changes):
        job = recorded(name, metadata={"deletionTimestamp": SINCE}, **changes)
        if said is not None:
            reason, message = said
            summary = next(one for one in job["status"]["conditions"] if one["type"] == "Succeeded")
            summary |= {"reason": reason, "message": message}
        return job

    return build


@pytest.fixture
def rex(fake_kubectl, going):
    fake_kubectl.answer(GET, json.dumps(going()))
    return fake_kubectl


def events(*changes):
    return "".join(f"{json.dumps({'type': kind, 'object': job})}\n" for kind, job in changes)


def test_a_deletion_is_seen_before_the_operator_says_it(rex, darkroom):
    lines = [" ".join(line.split()) for line in darkroom("describe", "rex").stdout.splitlines()]
    assert f"status Deleting: its deletion began at {SINCE}" in lines


def test_describe_says_what_the_operator_says_of_a_deletion(rex, going, darkroom):
    operator = {"operator": "darkroom-system/darkroom-operator"}
    said = ("Deleting", "waits for rex-2 to go")
    rex.answer(GET, json.dumps(going(said=said, status=operator)))
    lines = [" ".join(line.split()) for line in darkroom("describe", "rex").stdout.splitlines()]
    assert "status Deleting: waits for rex-2 to go" in lines
    assert f"next wait: it is being deleted since {SINCE}" in lines
    assert "operator darkroom-system/darkroom-operator" in lines
    rex.answer(GET, json.dumps(going(said=("CleanupFailed", "Job rex-cleanup-3: no room"))))
    text = " ".join(darkroom("describe", "rex").stdout.split())
    assert "status CleanupFailed: Job rex-cleanup-3: no room next mend what the message" in text


@pytest.mark.parametrize("name", ["job-training", "job-done"])
def test_a_watch_of_a_deletion_ends_when_the_job_is_gone(name, rex, going, darkroom):
    spec = {"output": {"deletionPolicy": "Delete"}}
    job = going(name, spec=spec)
    told = going(name, said=("Deleting", "its model is being removed"), spec=spec)
    rex.answer(WATCH, events(("ADDED", job), ("MODIFIED", told), ("DELETED", told)))
    done = darkroom("watch", "rex")
    assert done.exit_code == 1
    first, second, last = done.stdout.splitlines()
    assert first.startswith("rex: Deleting, step ")
    assert second.endswith(": its model is being removed")
    assert last == "rex: deleted"
    over = "" if name == "job-done" else " before it was over"
    assert done.stderr.splitlines()[-1] == f"rex was deleted{over}"


def test_a_model_that_stays_is_told_after_the_deletion(rex, going, darkroom):
    job = going("job-done")
    rex.answer(WATCH, events(("ADDED", job), ("DELETED", job)))
    done = darkroom("watch", "rex")
    assert done.exit_code == 0
    assert done.stdout.endswith(
        "model: pvc://models/team-a/rex\nnext: draw with the model: darkroom generate\n"
    )


@pytest.mark.parametrize("verb", ["suspend", "resume"])
def test_a_job_that_is_being_deleted_can_not_be_suspended(verb, rex, darkroom):
    done = darkroom(verb, "rex")
    assert done.exit_code == 1
    assert done.stderr == f"rex is cancelled; wait: it is being deleted since {SINCE}\n"


def test_a_second_cancel_says_that_there_was_one(rex, darkroom):
    done = darkroom("cancel", "rex")
    assert done.exit_code == 0
    assert done.stdout == f"rex is cancelled already; wait: it is being deleted since {SINCE}\n"
    assert not any(call["line"].startswith("delete") for call in rex.calls)


def config_map(**owners):
    references = [
        {"kind": "PersonalizationJob", "uid": uid, "name": n} for n, uid in owners.items()
    ]
    labels = {"app.kubernetes.io/managed-by": "darkroom", "darkroom.dev/job": "rex"}
    metadata = {"name": "rex-photos", "uid": "1", "labels": labels, "ownerReferences": references}
    return json.dumps({"kind": "ConfigMap", "metadata": metadata})


@pytest.mark.parametrize(
    ("owners", "said"),
    [
        ({"rex": UID}, "; ConfigMap rex-photos with its photos goes too\n"),
        ({"rex": "of an earlier rex"}, "; ConfigMap rex-photos with its photos goes too\n"),
        ({"rex": UID, "max": "2"}, "; ConfigMap rex-photos with its photos stays for max\n"),
        ({"max": "2"}, "; ConfigMap rex-photos with its photos stays for max\n"),
        (
            {},
            "; ConfigMap rex-photos with its photos stays; to delete it: kubectl delete configmap"
            " rex-photos --namespace team-a --context big\n",
        ),
    ],
)
def test_cancel_says_what_becomes_of_the_photos(owners, said, rex, darkroom):
    rex.answer(GET, "job-training.json")
    rex.answer("delete")
    rex.answer(CONFIG_MAP, config_map(**owners))
    done = darkroom("cancel", "rex", "--yes", "--context", "big")
    assert done.exit_code == 0
    assert done.stdout.endswith(f"what it wrote to pvc://models stays{said}")


@pytest.mark.parametrize("error", ["error-no-config-map.txt", "error-forbidden.txt"])
def test_photos_that_can_not_be_seen_do_not_keep_a_job_from_its_end(error, rex, darkroom):
    rex.answer(GET, "job-training.json")
    rex.answer("delete")
    rex.answer(CONFIG_MAP, error=error)
    done = darkroom("cancel", "rex", "--yes")
    assert done.exit_code == 0
    assert done.stdout.endswith("what it wrote to pvc://models stays\n")
