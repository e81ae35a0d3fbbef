"""Images without a registry: an archive that names the machine's own programs."""

import hashlib
import json
import sys
import tarfile

import pytest

from darkroom_testing.cluster import images
from darkroom_testing.cluster.errors import ClusterError
from darkroom_testing.cluster.images import PAUSE, default_images, environment, write_images


@pytest.fixture
def archives(tmp_path):
    pause = tmp_path / "pause"
    pause.write_bytes(b"#!")
    return write_images(tmp_path / "images", pause, ["docker.io/a/b:1", "docker.io/a/c:2"])


def contents(archive):
    with tarfile.open(archive) as opened:
        return {entry.name: opened.extractfile(entry).read() for entry in opened}


def test_every_blob_has_the_name_of_its_digest(archives):
    for archive in archives:
        for name, blob in contents(archive).items():
            if name.startswith("blobs/sha256/"):
                assert name.removeprefix("blobs/sha256/") == hashlib.sha256(blob).hexdigest()


def test_one_image_has_many_names(archives):
    index = json.loads(contents(archives[1])["index.json"])
    names = [one["annotations"]["io.containerd.image.name"] for one in index["manifests"]]
    assert names == ["docker.io/a/b:1", "docker.io/a/c:2"]
    assert len({one["digest"] for one in index["manifests"]}) == 1
    pause = json.loads(contents(archives[0])["index.json"])["manifests"]
    assert [one["annotations"]["io.containerd.image.name"] for one in pause] == [PAUSE]


def test_the_same_image_is_the_same_bytes(archives, tmp_path):
    again = write_images(tmp_path / "again", tmp_path / "pause", ["docker.io/a/b:1"])
    blobs = [name for name in contents(again[1]) if name.startswith("blobs/")]
    assert set(blobs) <= set(contents(archives[1]))


def test_a_container_finds_this_python_and_this_checkout():
    assert environment()["PATH"].startswith(f"{sys.prefix}/bin:")
    assert str(images.ROOT / "operator") in environment()["PYTHONPATH"].split(":")
    assert "docker.io/darkroom/operator:dev" in default_images()


def test_a_checkout_that_pods_cannot_see_is_refused(monkeypatch):
    monkeypatch.setattr(images, "ROOT", images.POD_TMP / "checkout")
    monkeypatch.setattr(images.Path, "exists", lambda path: True)
    with pytest.raises(ClusterError, match="move it"):
        images.read_only_folders()
