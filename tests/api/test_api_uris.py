"""Where URIs lead on this machine: files, claims as folders, and what ships with darkroom."""

import pytest

from darkroom_api.builtin import builtin_folder
from darkroom_api.names import BUILTIN_DIR_ENV, VOLUMES_ENV
from darkroom_api.uris import UnsupportedUriError, local_path


def test_a_file_is_relative_to_the_job(tmp_path):
    assert local_path("file:photos/dog", tmp_path) == tmp_path / "photos/dog"
    assert local_path("file:../photos", tmp_path / "jobs") == tmp_path / "photos"
    assert local_path(f"file:{tmp_path}", tmp_path / "jobs") == tmp_path


def test_a_claim_is_a_folder_below_the_volumes(tmp_path, monkeypatch):
    monkeypatch.setenv(VOLUMES_ENV, str(tmp_path))
    assert local_path("pvc://models", tmp_path / "jobs") == tmp_path / "models"
    assert local_path("pvc://models/team/a", tmp_path) == tmp_path / "models/team/a"


def test_a_claim_is_a_folder_here_when_no_volumes_are_set(tmp_path, monkeypatch):
    monkeypatch.delenv(VOLUMES_ENV, raising=False)
    monkeypatch.chdir(tmp_path)
    assert local_path("pvc://models", tmp_path / "jobs") == tmp_path / "models"


@pytest.mark.parametrize("uri", ["s3://bucket/a", "gs://bucket", "hf://o/n@" + "0" * 40])
def test_what_needs_a_download_is_refused(tmp_path, uri):
    with pytest.raises(UnsupportedUriError, match="not on this machine's disk"):
        local_path(uri, tmp_path)


@pytest.mark.parametrize(
    ("name", "folder"), [("miniature", "base"), ("classifier", "classifier"), ("mascot", "mascot")]
)
def test_what_is_built_in_has_a_folder(tmp_path, monkeypatch, name, folder):
    (tmp_path / folder).mkdir()
    monkeypatch.setenv(BUILTIN_DIR_ENV, str(tmp_path))
    assert local_path(f"builtin:{name}", tmp_path / "jobs") == tmp_path / folder


def test_what_is_not_built_in_is_named():
    with pytest.raises(LookupError, match="there are classifier, mascot, miniature"):
        builtin_folder("maskot")


def test_files_that_are_not_installed_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv(BUILTIN_DIR_ENV, str(tmp_path))
    with pytest.raises(FileNotFoundError, match="reinstall darkroom"):
        builtin_folder("mascot")
