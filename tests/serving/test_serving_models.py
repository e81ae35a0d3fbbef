"""The catalogue follows the registry; a model gets into memory only when its files are intact."""

import shutil

import pytest

from darkroom_serving.errors import ApiError
from darkroom_serving.models.catalogue import ModelCatalogue, ModelStore


@pytest.fixture
def registry(tmp_path):
    return tmp_path / "models"


@pytest.fixture
def catalogue(registry, serving_base):
    return ModelCatalogue(registry, serving_base)


def flip_byte(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def weights_of(entry):
    return entry.folder / "unet" / "diffusion_pytorch_model.safetensors"


def test_a_registry_that_is_not_there_yet_holds_no_subjects(catalogue):
    assert [model.model_id for model in catalogue.models()] == ["miniature"]


def test_published_models_are_found_at_once(catalogue, registry, publish_subject):
    publish_subject(registry, "rex")
    entry = publish_subject(registry, "rex", namespace="studio")
    assert [model.model_id for model in catalogue.models()] == ["miniature", "rex", "studio/rex"]
    card = catalogue.find("studio/rex").card
    assert (card.digest, card.owned_by) == (entry.digest, "studio")
    assert card.instance_prompt == "a photo of sks dog"


def test_a_new_version_replaces_the_old_one(catalogue, registry, publish_subject):
    first = publish_subject(registry, "rex", shift=1)
    second = publish_subject(registry, "rex", shift=2)
    assert first.digest != second.digest
    assert catalogue.find("rex").digest == second.digest


def test_an_unknown_model_is_refused_with_those_there_are(catalogue):
    with pytest.raises(ApiError, match='model: "rx" does not exist; there are miniature') as caught:
        catalogue.find("rx")
    assert (caught.value.status, caught.value.code) == (404, "model_not_found")


def test_the_default_namespace_may_be_written(catalogue, registry, publish_subject):
    entry = publish_subject(registry, "rex")
    assert catalogue.find("default/rex").digest == entry.digest
    assert catalogue.find("default/miniature").model_id == "miniature"


def test_of_many_models_an_error_names_the_nearest(catalogue, registry):
    for number in range(100):
        folder = registry / "default" / f"subject-{number}" / "0"
        folder.mkdir(parents=True)
        (folder.parent / "latest").symlink_to("0")
    with pytest.raises(ApiError) as caught:
        catalogue.find("subjekt-7")
    assert "there are 101, the nearest subject-7" in caught.value.message
    assert caught.value.message.count("subject-") == 5
    with pytest.raises(ApiError, match="there are 101: see GET /v1/models"):
        catalogue.find("zzz")


def test_a_subject_called_like_the_base_does_not_replace_it(
    catalogue, registry, publish_subject, serving_base
):
    publish_subject(registry, "miniature")
    assert [model.folder for model in catalogue.models()] == [serving_base]
    assert catalogue.find("miniature").folder == serving_base


def test_a_flipped_byte_is_refused_and_others_are_served(catalogue, registry, publish_subject):
    flip_byte(weights_of(publish_subject(registry, "rex")))
    publish_subject(registry, "tom", shift=2)
    store = ModelStore(lambda model: model.folder, max_models=2)
    with pytest.raises(ApiError) as caught:
        store.get(catalogue.find("rex"))
    assert caught.value.message == (
        "rex is damaged: unet/diffusion_pytorch_model.safetensors does not match its digest: it was"
        " altered or is torn; copy its folder again from where it came, or run its job again"
    )
    assert (caught.value.status, caught.value.code) == (500, "model_damaged")
    assert store.get(catalogue.find("tom")) == catalogue.find("tom").folder


def test_a_mended_model_is_served_again(catalogue, registry, publish_subject):
    entry = publish_subject(registry, "rex")
    intact = weights_of(entry).read_bytes()
    flip_byte(weights_of(entry))
    store = ModelStore(lambda model: model.folder, max_models=2)
    with pytest.raises(ApiError):
        store.get(catalogue.find("rex"))
    weights_of(entry).write_bytes(intact)
    assert store.get(catalogue.find("rex")) == entry.folder


def test_a_torn_manifest_hides_only_its_model(catalogue, registry, publish_subject):
    entry = publish_subject(registry, "rex")
    publish_subject(registry, "tom", shift=2)
    (entry.folder / "manifest.json").write_text("{")
    assert [model.model_id for model in catalogue.models()] == ["miniature", "tom"]
    with pytest.raises(ApiError, match=r"rex is damaged: its manifest\.json can't be read"):
        catalogue.find("rex")


def test_a_folder_under_anothers_digest_is_refused(catalogue, registry, publish_subject):
    first = publish_subject(registry, "rex", shift=1)
    second = publish_subject(registry, "rex", shift=2)
    shutil.rmtree(second.folder)
    shutil.copytree(first.folder, second.folder)
    with pytest.raises(ApiError, match=r"rex is damaged: manifest\.json is of another version"):
        catalogue.find("rex")


def test_a_damaged_base_is_refused(tmp_path, registry, serving_base):
    base = tmp_path / "base"
    shutil.copytree(serving_base, base)
    (base / "manifest.json").unlink()
    with pytest.raises(ApiError, match=r"the base model is damaged: has no manifest\.json"):
        ModelCatalogue(registry, base).find(None)


def test_intact_files_that_are_no_model_are_refused(catalogue, registry, publish_subject):
    publish_subject(registry, "rex")

    def load(_):
        raise KeyError("block_out_channels")

    with pytest.raises(
        ApiError, match=r"rex can't be loaded \(KeyError\); publish a model"
    ) as caught:
        ModelStore(load, max_models=1).get(catalogue.find("rex"))
    assert caught.value.code == "model_unusable"


def test_a_damaged_model_takes_nobodys_place(catalogue, registry, publish_subject):
    flip_byte(weights_of(publish_subject(registry, "rex")))
    store = ModelStore(lambda model: model.folder, max_models=1)
    store.get(catalogue.find("miniature"))
    with pytest.raises(ApiError):
        store.get(catalogue.find("rex"))
    assert catalogue.find("miniature") in store


def test_the_model_that_was_unused_for_longest_makes_room(catalogue, registry, publish_subject):
    for number, name in enumerate(("rex", "tom"), start=1):
        publish_subject(registry, name, shift=number)
    loads = []
    store = ModelStore(loads.append, max_models=2)
    for name in ("rex", "tom", "rex", "miniature", "rex", "tom"):
        store.get(catalogue.find(name))
    assert [model.folder.parent.name for model in loads[:2]] == ["rex", "tom"]
    assert len(loads) == 4
    assert catalogue.find("miniature") not in store
