"""Artifacts on disk: any damage is found, and a crash at any moment leaves a registry that verifies."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest

from darkroom_api import integrity
from darkroom_api.artifact import ArtifactKind, ModelManifest, content_digest
from darkroom_api.integrity import (
    IntegrityError,
    hash_folder,
    publish_folder,
    read_manifest,
    seal,
    verify,
    write_atomically,
)
from darkroom_api.names import LATEST_LINK, MANIFEST_FILE
from darkroom_api.registry import entries, find, load_verified, publish, staging_folder

FILES = {"unet/weights.safetensors": bytes(range(256)) * 8, "model_index.json": b"{}", "empty": b""}


class Crash(BaseException):
    """The machine stops here."""


def write(folder, content=FILES, name="rex", namespace="default"):
    """A sealed model folder."""
    for path, data in content.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    files = hash_folder(folder)
    manifest = ModelManifest(
        kind=ArtifactKind.SUBJECT_MODEL,
        name=name,
        namespace=namespace,
        files=files,
        digest=content_digest(files),
    )
    seal(folder, manifest)
    return manifest


def published(root, content=FILES, name="rex", namespace="default"):
    """Publishes a model as the trainer does."""
    partial = staging_folder(root, namespace, name)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    write(partial, content, name, namespace)
    return publish(partial, root)


@pytest.fixture
def sealed(tmp_path):
    folder = tmp_path / "model"
    write(folder)
    return folder


def why(folder):
    with pytest.raises(IntegrityError) as error:
        verify(folder)
    return error.value.why


def test_a_sealed_folder_verifies(sealed):
    manifest = verify(sealed)
    assert set(manifest.files) == set(FILES)
    assert read_manifest(sealed) == manifest


@pytest.mark.parametrize("position", [0, 1, 1024, 2047])
@pytest.mark.parametrize("bit", [0, 7])
def test_a_flipped_bit_is_found(sealed, position, bit):
    path = sealed / "unet/weights.safetensors"
    data = bytearray(path.read_bytes())
    data[position] ^= 1 << bit
    path.write_bytes(data)
    assert why(sealed).startswith("unet/weights.safetensors does not match its digest")


@pytest.mark.parametrize("length", [0, 1, 2047])
def test_a_torn_file_is_found(sealed, length):
    os.truncate(sealed / "unet/weights.safetensors", length)
    assert "altered or is torn" in why(sealed)


def test_a_longer_file_is_found(sealed):
    with (sealed / "empty").open("ab") as file:
        file.write(b"\0")
    assert why(sealed).startswith("empty does not match")


def test_a_missing_file_is_found(sealed):
    (sealed / "empty").unlink()
    assert why(sealed) == "empty is missing"


def test_two_files_that_changed_places_are_found(sealed):
    (sealed / "empty").rename(sealed / "other")
    (sealed / "model_index.json").rename(sealed / "empty")
    (sealed / "other").rename(sealed / "model_index.json")
    assert "does not match" in why(sealed)


@pytest.mark.parametrize(
    "name", ["added.bin", "unet/added.bin", ".hidden", f"unet/{MANIFEST_FILE}"]
)
def test_an_added_file_is_found(sealed, name):
    (sealed / name).write_bytes(b"x")
    assert why(sealed) == f"{name} is not in the manifest"


def test_a_symbolic_link_is_refused(sealed, tmp_path):
    path = sealed / "model_index.json"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert why(sealed) == "model_index.json is a symbolic link"


def test_a_link_to_a_folder_is_refused(sealed, tmp_path):
    (tmp_path / "outside").mkdir()
    (sealed / "more").symlink_to(tmp_path / "outside")
    assert why(sealed) == "more is a symbolic link"


def test_a_folder_without_manifest_is_not_complete(sealed):
    (sealed / MANIFEST_FILE).unlink()
    assert why(sealed) == f"has no {MANIFEST_FILE}: it is not complete"


def test_a_folder_that_does_not_exist_is_not_complete(tmp_path):
    assert "not complete" in why(tmp_path / "nothing")


@pytest.mark.parametrize("keep", [0, 1, 0.5])
def test_a_torn_manifest_is_found(sealed, keep):
    path = sealed / MANIFEST_FILE
    os.truncate(path, keep if keep == 1 else int(path.stat().st_size * keep))
    assert "can't be read" in why(sealed)


def altered(folder, change):
    path = folder / MANIFEST_FILE
    manifest = json.loads(path.read_bytes())
    change(manifest)
    path.write_text(json.dumps(manifest))
    return why(folder)


def test_what_is_wrong_with_a_manifest_is_said_in_a_line(sealed):
    (sealed / MANIFEST_FILE).write_text("{")
    assert "\n" not in why(sealed)
    assert why(sealed).startswith(f"its {MANIFEST_FILE} can't be read: Invalid JSON")


def test_a_file_that_the_disk_does_not_give_back_is_named(sealed, monkeypatch):
    def fail(path):
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(integrity, "hash_file", fail)
    assert why(sealed) == "empty can't be read: Input/output error"


def test_an_altered_manifest_is_found(sealed):
    def other_digest(manifest):
        manifest["files"]["empty"]["sha256"] = "0" * 64

    assert "the manifest was altered" in altered(sealed, other_digest)


def test_a_file_struck_off_the_manifest_is_found(sealed):
    assert "the manifest was altered" in altered(sealed, lambda m: m["files"].pop("empty"))


def test_an_unknown_field_of_a_manifest_is_refused(sealed):
    assert "can't be read" in altered(sealed, lambda m: m.update(pickle="weights.bin"))


def test_a_manifest_that_climbs_out_is_refused(sealed, tmp_path):
    (tmp_path / "secret").write_bytes(b"x")
    files = hash_folder(sealed)
    files["../secret"] = files["empty"]
    manifest = read_manifest(sealed)
    climbing = manifest.model_copy(update={"files": files, "digest": content_digest(files)})
    (sealed / MANIFEST_FILE).write_text(climbing.model_dump_json(exclude_none=True))
    assert why(sealed) == "../secret is missing"


def test_the_digest_is_of_content_and_names_only(tmp_path):
    first, second = write(tmp_path / "a", name="rex"), write(tmp_path / "b", name="fido")
    assert first.digest == second.digest
    renamed = {name.replace("empty", "void"): data for name, data in FILES.items()}
    assert write(tmp_path / "c", renamed).digest != first.digest


def test_the_registry_finds_what_was_published(tmp_path):
    entry = published(tmp_path)
    other = published(tmp_path, namespace="team-a")
    assert entries(tmp_path) == [entry, other]
    assert find(tmp_path, "rex") == entry
    assert find(tmp_path, "team-a/rex") == other
    assert load_verified(entry).digest == entry.folder.name


def test_a_new_version_becomes_the_latest_and_the_old_one_stays(tmp_path):
    old = published(tmp_path)
    new = published(tmp_path, FILES | {"model_index.json": b"{ }"})
    assert find(tmp_path, "rex") == new
    assert verify(old.folder).digest == old.digest


def test_publishing_the_same_again_changes_nothing(tmp_path):
    entry = published(tmp_path)
    assert published(tmp_path) == entry
    assert load_verified(find(tmp_path, "rex"))


def test_an_unknown_model_is_named_with_what_there_is(tmp_path):
    with pytest.raises(LookupError, match="it has no models"):
        find(tmp_path, "rex")
    published(tmp_path)
    with pytest.raises(LookupError, match="has no model 'fido'; it has rex"):
        find(tmp_path, "fido")


def test_a_version_under_another_name_is_refused(tmp_path):
    entry = published(tmp_path)
    moved = entry.folder.rename(entry.folder.with_name("0" * 64))
    link = moved.parent / LATEST_LINK
    link.unlink()
    link.symlink_to(moved.name)
    with pytest.raises(IntegrityError, match="not the folder's name"):
        load_verified(find(tmp_path, "rex"))


def test_a_latest_that_leads_out_of_the_registry_is_no_model(tmp_path, sealed):
    versions = tmp_path / "models" / "default" / "rex"
    versions.mkdir(parents=True)
    (versions / LATEST_LINK).symlink_to(sealed)
    assert entries(tmp_path / "models") == []


def test_a_folder_without_latest_is_no_model_yet(tmp_path):
    staging_folder(tmp_path, "default", "rex").mkdir()
    assert entries(tmp_path) == []


class Faults:
    """Counts what reaches the disk, and stops the machine before the nth time."""

    STEPS = (
        (os, "fsync"),
        (Path, "rename"),
        (Path, "replace"),
        (Path, "write_bytes"),
        (Path, "symlink_to"),
    )

    def __init__(self, monkeypatch, stop_at=None):
        self.count = 0
        self.stop_at = stop_at
        for owner, name in self.STEPS:
            monkeypatch.setattr(owner, name, self._wrapped(getattr(owner, name)))

    def _wrapped(self, function):
        def step(*arguments, **options):
            if self.count == self.stop_at:
                raise Crash
            self.count += 1
            return function(*arguments, **options)

        return step


def steps_of_publishing(tmp_path, monkeypatch, before):
    root = tmp_path / "counted"
    for content in before:
        published(root, content)
    with monkeypatch.context() as patch:
        faults = Faults(patch)
        published(root, NEW)
    return faults.count


NEW = FILES | {"model_index.json": b'{"version": 2}'}


@pytest.mark.parametrize(
    "before",
    [
        pytest.param([], id="first"),
        pytest.param([FILES], id="second"),
        pytest.param([FILES, NEW, FILES], id="back-and-forth"),
        pytest.param([NEW], id="the-same-again"),
    ],
)
def test_a_crash_before_any_write_leaves_a_latest_that_verifies(tmp_path, monkeypatch, before):
    steps = steps_of_publishing(tmp_path, monkeypatch, before)
    assert steps > 10
    for stop_at in range(steps):
        root = tmp_path / str(stop_at)
        for content in before:
            published(root, content)
        with monkeypatch.context() as patch:
            Faults(patch, stop_at)
            with pytest.raises(Crash):
                published(root, NEW)
        found = entries(root)
        assert len(found) == 1 or not before, stop_at
        for entry in found:
            load_verified(entry)


def test_after_a_crash_publishing_again_succeeds(tmp_path, monkeypatch):
    for stop_at in range(steps_of_publishing(tmp_path, monkeypatch, [FILES])):
        root = tmp_path / str(stop_at)
        published(root)
        with monkeypatch.context() as patch:
            Faults(patch, stop_at)
            with pytest.raises(Crash):
                published(root, NEW)
        entry = published(root, NEW)
        assert find(root, "rex") == entry
        assert load_verified(entry)


def test_a_crash_before_the_manifest_leaves_no_artifact(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    with monkeypatch.context() as patch:
        Faults(patch, stop_at=len(FILES) + 5)
        with pytest.raises(Crash):
            write(tmp_path / "model")
    assert "not complete" in why(tmp_path / "model")


@pytest.mark.parametrize("stop_at", range(4))
def test_an_atomic_write_leaves_the_old_content_or_the_new(tmp_path, monkeypatch, stop_at):
    path = tmp_path / "state.json"
    write_atomically(path, b"old")
    with monkeypatch.context() as patch:
        Faults(patch, stop_at)
        with pytest.raises(Crash):
            write_atomically(path, b"new")
    assert path.read_bytes() in (b"old", b"new")


def test_a_damaged_version_is_mended_by_publishing_again(tmp_path):
    entry = published(tmp_path)
    (entry.folder / "empty").write_bytes(b"x")
    assert published(tmp_path) == entry
    assert load_verified(entry)


def test_publish_replaces_an_incomplete_target(tmp_path, sealed):
    target = tmp_path / "target"
    (target / "left-over").mkdir(parents=True)
    publish_folder(sealed, target)
    assert verify(target)
    assert not sealed.exists()
