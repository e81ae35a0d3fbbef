"""Adapters and token embeddings are drawn on the base that they were made on, as plain diffusers draws them."""

import shutil

import numpy as np
import pytest
import torch

from darkroom_api.artifact import (
    LEARNED_EMBEDDINGS,
    LORA_WEIGHTS,
    Addition,
    ArtifactKind,
    BaseReference,
)
from darkroom_api.integrity import read_manifest
from darkroom_api.registry import publish, staging_folder
from darkroom_sampling.samplers import Sampler
from darkroom_serving.engine.batching import BatchingEngine
from darkroom_serving.engine.requests import DrawRequest
from darkroom_serving.errors import ApiError
from darkroom_serving.models.additions import load_served
from darkroom_serving.models.catalogue import ModelCatalogue, ModelStore
from darkroom_testing.plain_pipelines import plain_pipeline
from darkroom_testing.tiny_additions import write_adapter, write_embeddings

STEPS = 3
VECTORS = 3
PROMPT = "a <sks> dog"


def write_vectors(base, folder):
    write_embeddings(folder, "<sks>", VECTORS)


CONTENTS = {
    "adapter": (write_adapter,),
    "embeddings": (write_vectors,),
    "both": (write_adapter, write_vectors),
}


@pytest.fixture
def registry(tmp_path):
    return tmp_path / "models"


@pytest.fixture
def catalogue(registry, serving_base):
    return ModelCatalogue(registry, serving_base)


@pytest.fixture
def publish_addition(registry, serving_base, seal_folder):
    """Publishes what was written for the serving base, or for another one that a reference names."""

    def build(name="rex", content="adapter", **reference):
        partial = staging_folder(registry, "default", name)
        partial.mkdir()
        for write in CONTENTS[content]:
            write(serving_base, partial)
        made_on = {"uri": "file:bases/tiny", "digest": read_manifest(serving_base).digest}
        seal_folder(
            partial,
            ArtifactKind.EMBEDDINGS if content == "embeddings" else ArtifactKind.ADAPTER,
            name,
            base=BaseReference(**made_on | reference),
            adds=Addition(trigger="<sks>"),
        )
        return publish(partial, registry)

    return build


def drawn_by_us(loaded):
    request = DrawRequest(
        prompt=PROMPT,
        negative_prompt="",
        width=32,
        height=32,
        steps=STEPS,
        guidance_scale=3.0,
        sampler=Sampler.DDIM,
        seed=5,
    )
    (picture,) = BatchingEngine().draw(loaded.model, [request], lambda: False)
    return picture.astype(int)


def drawn_by_diffusers(base, folder):
    pipeline = plain_pipeline(base)
    if (folder / LEARNED_EMBEDDINGS).exists():
        pipeline.load_textual_inversion(folder)
    if (folder / LORA_WEIGHTS).exists():
        pipeline.load_lora_weights(folder)
    options = {"num_inference_steps": STEPS, "guidance_scale": 3.0, "output_type": "np"}
    generator = torch.Generator().manual_seed(5)
    (picture,) = pipeline(PROMPT, generator=generator, **options).images
    return (picture * 255).round().astype(int)


@pytest.mark.parametrize("content", CONTENTS)
def test_what_is_added_is_drawn_as_plain_diffusers_draws_it(
    catalogue, publish_addition, serving_base, content
):
    entry = publish_addition(content=content)
    device = torch.device("cpu")
    store = ModelStore(lambda model: load_served(model, device), max_models=2)
    picture = drawn_by_us(store.get(catalogue.find("rex")))
    assert np.abs(picture - drawn_by_diffusers(serving_base, entry.folder)).max() <= 1
    plain = drawn_by_us(store.get(catalogue.find(None)))
    assert np.abs(picture - plain).max() > 10


def test_every_vector_of_a_word_counts_as_a_token(catalogue, publish_addition):
    publish_addition(content="embeddings")
    device = torch.device("cpu")
    loaded, plain = (
        load_served(catalogue.find(name), device).model.conditioning for name in ("rex", None)
    )
    assert loaded.count_tokens("a <sks>") == plain.count_tokens("a") + 3
    assert loaded.count_tokens("a dog") == plain.count_tokens("a dog")


def test_what_is_added_is_listed_with_its_base(catalogue, publish_addition, serving_base):
    publish_addition()
    base, rex = catalogue.models()
    assert (rex.model_id, rex.card.parent) == ("rex", base.digest)


def test_the_base_may_be_another_model_of_the_registry(
    tmp_path, registry, publish_addition, publish_subject, serving_base
):
    other = publish_subject(registry, "tom")
    publish_addition(digest=other.digest)
    assert ModelCatalogue(registry, serving_base).find("rex").base.folder == other.folder


def test_the_base_is_found_where_the_job_had_it(
    tmp_path, registry, publish_addition, publish_subject, serving_base
):
    server_base = publish_subject(tmp_path / "elsewhere", "tom").folder
    publish_addition(uri=f"file:{serving_base}")
    assert ModelCatalogue(registry, server_base).find("rex").base.folder == serving_base


def test_a_base_that_is_not_here_is_named_with_the_command_that_brings_it(
    catalogue, publish_addition, serving_base
):
    publish_addition(digest="a" * 64)
    with pytest.raises(ApiError) as caught:
        catalogue.find("rex")
    own = read_manifest(serving_base).digest[:12]
    assert caught.value.message == (
        "rex goes on file:bases/tiny with digest aaaaaaaaaaaa, and this server's base model miniature"
        f" has digest {own}; make a sealed folder of its base with darkroom import SOURCE NAME,"
        " and start the server with --base bases/NAME"
    )
    assert (caught.value.status, caught.value.code) == (500, "base_not_found")


def test_a_base_that_has_changed_is_refused_with_both_digests(
    catalogue, publish_addition, serving_base
):
    publish_addition(uri=f"file:{serving_base}", digest="a" * 64)
    with pytest.raises(ApiError) as caught:
        catalogue.find("rex")
    now = read_manifest(serving_base).digest[:12]
    assert f"with digest aaaaaaaaaaaa, and that has digest {now} now" in caught.value.message


def test_a_base_with_a_flipped_byte_is_refused(tmp_path, registry, publish_addition, serving_base):
    publish_addition()
    base = shutil.copytree(serving_base, tmp_path / "base")
    weights = base / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    store = ModelStore(lambda model: model.folder, max_models=1)
    with pytest.raises(ApiError, match="the base model of rex is damaged: vae/"):
        store.get(ModelCatalogue(registry, base).find("rex"))
