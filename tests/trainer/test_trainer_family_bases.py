"""Base models of other families than Stable Diffusion 1: what fits is read, what doesn't is told before step 1."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from safetensors.torch import load_file, save_file

from darkroom_api.objections import cluster_objections, objections
from darkroom_testing.tiny_families import write_stable_diffusion_xl, write_z_image
from darkroom_trainer.driver import plan
from darkroom_trainer.driver.base_check import check_base, class_warnings
from darkroom_trainer.errors import TrainerError
from darkroom_trainer.families.layout import known_families
from darkroom_trainer.importing.bring import plan_import, run_import
from darkroom_trainer.inputs.base_model import inspect_base
from darkroom_trainer.inputs.machine import Machine
from darkroom_trainer.training.models import load_base

pytestmark = pytest.mark.usefixtures("classes_built_here")


@pytest.fixture
def xl(tmp_path):
    write_stable_diffusion_xl(tmp_path / "xl", seed=0)
    return tmp_path / "xl"


@pytest.fixture
def z_image(tmp_path):
    write_z_image(tmp_path / "z-image", seed=0)
    return tmp_path / "z-image"


def edit(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def refusal(folder):
    with pytest.raises(TrainerError) as caught:
        inspect_base("file:base", folder)
    return str(caught.value)


def test_every_folder_here_is_a_family_that_says_so():
    assert sorted(known_families()) == [
        "StableDiffusionPipeline",
        "StableDiffusionXLPipeline",
        "ZImagePipeline",
    ]


def test_the_sizes_of_a_family_are_read_from_its_configurations(xl, z_image):
    found = inspect_base("file:xl", xl)
    assert (found.max_tokens, found.native_resolution, found.side_step) == (24, 32, 4)
    assert found.num_parameters.keys() == {"unet", "vae", "text_encoder", "text_encoder_2"}
    found = inspect_base("file:z-image", z_image)
    assert (found.max_tokens, found.native_resolution, found.side_step) == (512, 32, 8)
    assert found.num_parameters.keys() == {"transformer", "vae", "text_encoder"}


def test_a_refiner_and_an_encoder_of_another_model_are_refused(xl):
    unet = xl / "unet" / "config.json"
    edit(unet, projection_class_embeddings_input_dim=5 * 8 + 12)
    assert "it may be a refiner; use the base model of Stable Diffusion XL" in refusal(xl)
    edit(unet, projection_class_embeddings_input_dim=6 * 8 + 12, cross_attention_dim=16)
    assert "reads text states of width 16 and its text encoder writes 40" in refusal(xl)
    edit(unet, cross_attention_dim=40, addition_embed_type="image")
    assert "(addition_embed_type: image)" in refusal(xl)
    edit(xl / "vae" / "config.json", latents_mean=[0.0] * 4)
    assert "its vae scales every channel of its latents" in refusal(xl)


def test_a_second_text_encoder_without_weights_or_vocabulary_is_refused(xl):
    (xl / "text_encoder_2" / "model.safetensors").unlink()
    assert "text_encoder_2 has no model.safetensors" in refusal(xl)
    for name in ("tokenizer.json", "vocab.json"):
        (xl / "tokenizer_2" / name).unlink()
    assert "its tokenizer_2 has neither tokenizer.json nor vocab.json" in refusal(xl)


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        (
            "scheduler/scheduler_config",
            {"use_dynamic_shifting": True},
            "(use_dynamic_shifting: True)",
        ),
        ("text_encoder/config", {"hidden_size": 8}, "takes 16 numbers a token and is given 8"),
        ("vae/config", {"latent_channels": 16}, "takes 4 channels and is given 16"),
        ("transformer/config", {"siglip_feat_dim": 8}, "it is given pictures too"),
    ],
)
def test_a_z_image_of_parts_that_do_not_fit_is_refused(z_image, file, change, said):
    edit(z_image / f"{file}.json", **change)
    assert said.removeprefix("it ") in refusal(z_image)


def test_a_single_file_of_stable_diffusion_xl_becomes_a_folder_with_equal_tensors(
    xl, tmp_path, load_script
):
    pipeline = StableDiffusionXLPipeline.from_pretrained(xl, use_safetensors=True)
    file = tmp_path / "xl.safetensors"
    save_file(load_script("tests/trainer/original_layout.py").as_xl(pipeline), file)
    (tmp_path / "bases").mkdir()
    done = run_import(
        plan_import(file, "mine", tmp_path / "bases", configs=xl, allow_pickle=False),
        lambda written: None,
    )
    loaded = load_base(done.folder, torch.device("cpu"))
    for part, module in {**loaded.trainable, "vae": loaded.codec.vae}.items():
        wanted = getattr(pipeline, part).state_dict()
        assert module.state_dict().keys() == wanted.keys()
        for name, tensor in module.state_dict().items():
            assert torch.equal(tensor, wanted[name]), name


def test_a_language_model_is_not_trained_and_that_is_said_in_the_same_words_everywhere(
    z_image, make_job, tmp_path
):
    said = "spec.training.trainTextEncoder: the text encoder of Z-Image is a language model"
    base = inspect_base("file:z-image", z_image)
    job = make_job(tmp_path, baseModel={"uri": f"hf://Tongyi-MAI/Z-Image@{'0' * 40}"})
    with pytest.raises(TrainerError) as caught:
        check_base(base, job.spec)
    assert str(caught.value).startswith(said)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    for found in (objections(job.spec, now), cluster_objections(job.spec, now)):
        assert str(caught.value) in [str(one.problem) for one in found]
    frozen = make_job(tmp_path, training={"trainTextEncoder": False})
    assert check_base(base, frozen.spec) == []
    assert objections(frozen.spec, now) == ()


def test_a_picture_is_a_whole_number_of_a_transformers_patches(z_image, make_job, tmp_path):
    job = make_job(tmp_path, training={"resolution": 40, "trainTextEncoder": False})
    base = replace(inspect_base("file:z-image", z_image), side_step=16)  # as published
    with pytest.raises(TrainerError, match="40 is not a multiple of 16"):
        plan._check_possible(job, base, Machine(2, 1 << 30, 0))


def test_a_language_model_with_its_last_layer_and_the_names_of_a_whole_one_is_read(z_image):
    file = z_image / "text_encoder" / "model.safetensors"
    tensors = load_file(file)
    whole = {f"model.{name}": tensor for name, tensor in tensors.items()}
    save_file(whole | {"lm_head.weight": torch.zeros(2, 16)}, file, metadata={"format": "pt"})
    (warning,) = class_warnings(inspect_base("file:z-image", z_image))
    assert "its text_encoder has 1 tensor: lm_head.weight" in str(warning)
    read = load_base(z_image, torch.device("cpu")).conditioning.encoders["text_encoder"]
    for name, tensor in read.state_dict().items():
        assert torch.equal(tensor, tensors[name]), name
