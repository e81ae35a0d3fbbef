"""`darkroom apply`: what is refused before the cluster hears of it, photos, and what is sent."""

import base64
import io
import json
import os

import pytest
from PIL import Image

APPLY = "apply --server-side --field-manager=darkroom --filename=-"
OWN = "apply --server-side --field-manager=darkroom-photos-rex --filename=-"
CREATE = "create --field-manager=darkroom --filename=-"
REPLACE = "replace --field-manager=darkroom --filename=-"
GET = "get --output=json configmap rex-photos"
UID = "5cb04072-0041-4109-b003-f4ff72679401"
LABELS = {"app.kubernetes.io/managed-by": "darkroom", "darkroom.dev/job": "rex"}


@pytest.fixture
def job(valid_job):
    text = valid_job.read_text()
    valid_job.write_text(text.replace("uri: file:photos", "configMap: rex-photos"))
    return valid_job


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    for number, size in enumerate([(400, 300), (300, 900), (50, 40)]):
        picture = Image.new("RGB", size, (90 * number, 50, 50))
        picture.save(folder / f"my dog {number}.jpg", exif=exif)
    return folder


@pytest.fixture
def kubectl(fake_kubectl):
    fake_kubectl.answer(APPLY, "job-new.json")
    fake_kubectl.answer(CREATE, config_map(LABELS))
    fake_kubectl.answer(OWN, config_map(LABELS, {UID: "rex"}))
    return fake_kubectl


def config_map(labels, owners=(), **content):
    references = [{"kind": "PersonalizationJob", "uid": uid, "name": owners[uid]} for uid in owners]
    metadata = {"name": "rex-photos", "uid": "1", "resourceVersion": "7", "labels": labels}
    metadata["ownerReferences"] = references
    return json.dumps({"kind": "ConfigMap", "metadata": metadata, **content})


def sent(kubectl, command):
    """The documents of the calls that begin so."""
    return [call["document"] for call in kubectl.calls if call["line"].startswith(command)]


def test_only_what_the_file_says_is_sent(job, kubectl, darkroom):
    done = darkroom("apply", job, "-n", "team-a", "--context", "big")
    assert done.exit_code == 0, done.stderr
    assert done.stdout == (
        "applied rex in namespace team-a\n"
        "next: darkroom watch rex --namespace team-a --context big\n"
    )
    call, operators = kubectl.calls
    assert operators["line"] == (
        "get --output=json configmaps --selector=darkroom.dev/operator"
        " --context=big --namespace=kube-public"
    )
    assert call["line"] == f"{APPLY} --output=json --context=big --namespace=team-a"
    document = call["document"]
    assert document["metadata"] == {"name": "rex"}
    assert "runPolicy" not in document["spec"]
    assert "status" not in document
    assert document["spec"]["subject"]["images"] == {"configMap": "rex-photos"}


def test_the_namespace_of_the_file_counts(job, kubectl, darkroom):
    job.write_text(job.read_text().replace("name: rex", "name: rex\n  namespace: team-b", 1))
    assert darkroom("apply", job).exit_code == 0
    assert kubectl.calls[0]["line"].endswith("--namespace=team-b")
    done = darkroom("apply", job, "-n", "team-a")
    assert done.exit_code == 1
    assert "metadata.namespace is team-b, not team-a; leave out one of the two" in done.stderr


def test_a_wrong_file_never_reaches_the_cluster(job, kubectl, darkroom):
    job.write_text(job.read_text().replace("maxSteps:", "maxStep:"))
    done = darkroom("apply", job)
    assert done.exit_code == 1
    assert "did you mean maxSteps?" in done.stderr
    assert kubectl.calls == []


def test_what_a_cluster_can_not_run_is_refused_with_the_fix(valid_job, kubectl, darkroom):
    text = valid_job.read_text().replace("pvc://models", "file:models")
    valid_job.write_text(text.replace("builtin:miniature", "s3://bucket/sd"))
    done = darkroom("apply", valid_job)
    assert done.exit_code == 1
    base, images, output = done.stderr.splitlines()
    assert "spec.baseModel.uri: s3://bucket/sd is not available yet; copy it to a volume" in base
    assert "spec.subject.images.uri: file:photos is a folder of one machine, which a" in images
    assert "configMap: NAME and give darkroom apply --photos DIR" in images
    assert "spec.output.uri: file:models can't hold a cluster's checkpoints; use pvc://" in output
    assert kubectl.calls == []


def test_photos_are_made_as_small_as_the_training_uses_them(job, photos, kubectl, darkroom):
    done = darkroom("apply", job, "--photos", photos)
    assert done.exit_code == 0, done.stderr
    assert kubectl.calls[2]["document"]["kind"] == "PersonalizationJob"
    document = sent(kubectl, CREATE)[0]
    assert document["metadata"] == {"name": "rex-photos", "labels": LABELS}
    files = {key: base64.b64decode(text) for key, text in document["binaryData"].items()}
    assert list(files) == ["001-my-dog-0.jpg", "002-my-dog-1.jpg", "003-my-dog-2.jpg"]
    pictures = [Image.open(io.BytesIO(content)) for content in files.values()]
    assert [picture.size for picture in pictures] == [(85, 64), (64, 192), (50, 40)]
    assert all(picture.format == "JPEG" and not picture.getexif() for picture in pictures)


def test_what_a_square_would_lose_is_said_unless_photos_keep_their_shape(
    job, photos, kubectl, darkroom
):
    lost = "the square in its middle is used, and 67% of it is lost"
    assert lost in darkroom("apply", job, "--photos", photos).stderr
    field = "resolution: 64\n    aspectRatioBuckets: true"
    job.write_text(job.read_text().replace("resolution: 64", field))
    done = darkroom("apply", job, "--photos", photos)
    assert done.exit_code == 0, done.stderr
    assert "is lost" not in done.stderr


def test_photos_need_a_config_map_in_the_job(valid_job, photos, kubectl, darkroom):
    valid_job.write_text(valid_job.read_text().replace("file:photos", "pvc://photos/rex"))
    done = darkroom("apply", valid_job, "--photos", photos)
    assert done.exit_code == 1
    assert "set spec.subject.images.configMap: NAME instead of uri" in done.stderr
    assert kubectl.calls == []


def test_every_picture_that_can_not_be_used_is_named(job, photos, kubectl, darkroom):
    (photos / "a.doc").write_text("hello")
    Image.new("RGB", (20, 400)).save(photos / "thin.png")
    done = darkroom("apply", job, "--photos", photos)
    assert done.exit_code == 1
    assert f"{photos / 'a.doc'}: is not a picture that can be read" in done.stderr
    assert f"{photos / 'thin.png'}: is 20 x 400 pixels" in done.stderr
    assert kubectl.calls == []


def test_too_few_photos_are_refused(job, photos, kubectl, darkroom):
    (photos / "my dog 0.jpg").unlink()
    done = darkroom("apply", job, "--photos", photos)
    assert "--photos: at least 3 photos are needed in" in done.stderr
    assert "it has 2; add" in done.stderr
    done = darkroom("apply", job, "--photos", photos / "absent")
    assert done.exit_code == 1
    assert "can't be read: No such file or directory" in done.stderr
    assert kubectl.calls == []


def test_more_than_a_config_map_holds_belongs_on_a_volume(job, photos, kubectl, darkroom):
    for number in range(5):
        noise = Image.frombytes("RGB", (512, 512), os.urandom(512 * 512 * 3))
        noise.save(photos / f"noise{number}.png")
    job.write_text(job.read_text().replace("resolution: 64", "resolution: 512"))
    done = darkroom("apply", job, "--photos", photos)
    assert done.exit_code == 1
    assert "8 pictures of 512 pixels need" in done.stderr
    assert "put them on a volume and set spec.subject.images.uri: pvc://CLAIM" in done.stderr
    assert kubectl.calls == []


def test_captions_and_repeats_go_along_and_copies_do_not(job, tmp_path, kubectl, darkroom):
    folder = tmp_path / "kohya"
    (folder / "10_sks dog").mkdir(parents=True)
    for number in range(3):
        Image.new("RGB", (64, 64), (90 * number, 50, 50)).save(folder / f"{number}.png")
    Image.new("RGB", (64, 64), (20, 200, 50)).save(folder / "10_sks dog" / "a.png")
    Image.new("RGB", (32, 32), (0, 50, 50)).save(folder / "copy.png")
    (folder / "1.txt").write_text("sks dog, asleep")
    done = darkroom("apply", job, "--photos", folder)
    assert done.exit_code == 0, done.stderr
    assert "warning: copy.png is left out: it shows the same picture as 0.png" in done.stderr
    data = sent(kubectl, CREATE)[0]["binaryData"]
    assert list(data) == ["001-0.jpg", "002-1.jpg", "003-a.jpg", "004-2.jpg", "metadata.jsonl"]
    lines = base64.b64decode(data["metadata.jsonl"]).decode().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"file_name": "002-1.jpg", "text": "sks dog, asleep"},
        {"file_name": "003-a.jpg", "text": "sks dog", "repeats": 10},
    ]


def test_a_caption_without_its_picture_is_refused(job, photos, kubectl, darkroom):
    (photos / "gone.txt").write_text("sks dog")
    done = darkroom("apply", job, "--photos", photos)
    assert done.exit_code == 1
    assert "--photos: gone.txt is the caption of a picture that is not there" in done.stderr
    assert kubectl.calls == []


def test_photos_are_stored_before_the_job_that_owns_them(job, photos, kubectl, darkroom):
    done = darkroom("apply", job, "--photos", photos)
    assert done.exit_code == 0, done.stderr
    verbs = [call["line"].split()[0] for call in kubectl.calls]
    assert verbs == ["get", "create", "apply", "get", "create", "apply", "get"]
    (owned,) = sent(kubectl, OWN)
    owner = {"apiVersion": "darkroom.dev/v1alpha1", "kind": "PersonalizationJob"}
    assert owned["metadata"] == {
        "name": "rex-photos",
        "uid": "1",
        "ownerReferences": [{**owner, "name": "rex", "uid": UID}],
    }
    assert "when it is deleted: ConfigMap rex-photos with its photos goes too" in done.stdout


def test_photos_can_be_kept_after_the_job(job, photos, kubectl, darkroom):
    kubectl.answer(OWN, config_map(LABELS))
    done = darkroom("apply", job, "--photos", photos, "--keep-photos", "--context", "big")
    assert done.exit_code == 0, done.stderr
    assert sent(kubectl, OWN)[0]["metadata"] == {"name": "rex-photos", "uid": "1"}
    assert (
        "when it is deleted: ConfigMap rex-photos with its photos stays; to delete it:"
        " kubectl delete configmap rex-photos --namespace team-a --context big\n"
    ) in done.stdout
    done = darkroom("apply", job, "--keep-photos")
    assert (done.exit_code, done.stderr) == (1, "--keep-photos: give --photos DIR too\n")


def test_a_config_map_of_somebody_else_gets_no_owner(job, photos, kubectl, darkroom):
    assert darkroom("apply", job, "--photos", photos).exit_code == 0
    stored = sent(kubectl, CREATE)[0]["binaryData"]
    kubectl.answer(GET, config_map({"team": "a"}, binaryData=stored))
    before = len(kubectl.calls)
    done = darkroom("apply", job, "--photos", photos)
    assert done.exit_code == 0, done.stderr
    assert "ConfigMap rex-photos with its photos stays" in done.stdout
    written = [call["document"] for call in kubectl.calls[before:] if call["document"]]
    assert [document["kind"] for document in written] == ["PersonalizationJob"]


def test_photos_of_a_job_that_was_not_applied_are_mentioned(job, photos, kubectl, darkroom):
    kubectl.answer(APPLY, error="error-forbidden.txt")
    done = darkroom("apply", job, "--photos", photos)
    assert done.exit_code == 1
    assert "ask the cluster's administrator for the right\n" in done.stderr
    assert "ConfigMap rex-photos holds the photos, but the job was not applied\n" in done.stderr
    assert sent(kubectl, OWN) == []


def test_photos_that_can_not_be_owned_do_not_spoil_the_job(job, photos, kubectl, darkroom):
    kubectl.answer(OWN, error="error-forbidden.txt")
    done = darkroom("apply", job, "--photos", photos)
    assert done.exit_code == 0
    assert "applied rex in namespace team-a" in done.stdout
    assert "\nwarning: ConfigMap rex-photos does not go with the job: kubectl" in done.stderr


def test_other_content_of_a_config_map_is_replaced_only_by_force(job, photos, kubectl, darkroom):
    kubectl.answer(GET, config_map({"team": "a"}, data={"key": "value"}))
    kubectl.answer(REPLACE, config_map({"team": "a"}))
    done = darkroom("apply", job, "--photos", photos)
    assert done.exit_code == 1
    assert "rex-photos exists and holds something else; name another one" in done.stderr
    assert len(kubectl.calls) == 1
    assert darkroom("apply", job, "--photos", photos, "--force").exit_code == 0
    replaced = sent(kubectl, REPLACE)[0]
    assert "data" not in replaced
    assert len(replaced["binaryData"]) == 3
    assert replaced["metadata"]["resourceVersion"] == "7"
    assert replaced["metadata"]["labels"] == {"team": "a"}


def test_a_job_that_is_being_deleted_is_not_applied(job, photos, kubectl, darkroom, request):
    going = json.loads((request.path.parent / "data/cluster/job-new.json").read_text())
    going["metadata"]["deletionTimestamp"] = "2026-11-25T16:00:00Z"
    kubectl.answer(APPLY, json.dumps(going))
    done = darkroom("apply", job, "--photos", photos)
    assert done.exit_code == 1
    assert "an earlier rex is still being deleted, and this one would go with it" in done.stderr
    assert sent(kubectl, OWN) == []


def test_a_job_that_is_over_does_not_run_again(job, kubectl, darkroom):
    kubectl.answer(APPLY, "job-failed.json")
    done = darkroom("apply", job)
    assert done.exit_code == 0
    assert (
        "next: it is over (LossNotFinite) and does not run again;"
        " to train anew: darkroom cancel rex --namespace team-a, then apply it again\n"
    ) in done.stdout


def test_a_conflict_says_how_to_take_over(job, kubectl, darkroom):
    kubectl.answer(APPLY, error="error-conflict.txt")
    done = darkroom("apply", job)
    assert done.exit_code == 1
    assert ".spec.runPolicy.suspend" in done.stderr
    assert "or take them over with --force" in done.stderr


def test_json_is_the_job_as_the_cluster_has_it(job, kubectl, darkroom):
    done = darkroom("apply", job, "--json")
    assert json.loads(done.stdout)["spec"]["training"]["seed"] == 42
