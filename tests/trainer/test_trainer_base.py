"""Bases as they are: what people bring is read, and what could not be trained is refused before a step."""

import json
import os
import shutil

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPImageProcessor

from darkroom_testing.tiny_models import safety_checker
from darkroom_trainer.driver import base_check
from darkroom_trainer.driver.base_check import check_base, class_warnings
from darkroom_trainer.errors import TrainerError
from darkroom_trainer.inputs.base.hub import wanted_files
from darkroom_trainer.inputs.base_model import inspect_base
from darkroom_trainer.output.export import export_model
from darkroom_trainer.training.class_shapes import class_shapes
from darkroom_trainer.training.models import load_base

pytestmark = pytest.mark.usefixtures("classes_built_here")

CPU = torch.device("cpu")
CREATED = "2026-11-23T00:00:00Z"
UNET = "unet/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"


@pytest.fixture
def pipeline(tiny_base):
    """The tiny base in memory."""
    return StableDiffusionPipeline.from_pretrained(tiny_base, use_safetensors=True)


def edit(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def change(file, **tensors):
    """Sets tensors of a file; None removes one."""
    found = load_file(file) | tensors
    save_file({name: tensor for name, tensor in found.items() if tensor is not None}, file)


def refusal(folder):
    with pytest.raises(TrainerError) as caught:
        class_warnings(inspect_base("file:base", folder))
    return str(caught.value)


def publish(folder, job, tmp_path):
    """What a training that changed everything by 0.5 publishes; the folder, and what was trained."""
    trained = {
        component: {name: tensor + 0.5 for name, tensor in module.state_dict().items()}
        for component, module in load_base(folder, CPU).trainable.items()
    }
    found = inspect_base("file:base", folder)
    entry = export_model(job, found, trained, root=tmp_path / "models", steps=4, created=CREATED)
    return entry.folder, trained


def test_a_process_of_its_own_says_once_what_the_classes_hold(base, tmp_path, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert class_warnings(inspect_base("file:base", base)) == []
    monkeypatch.setattr(base_check, "_built_shapes", None)
    change(base / UNET, **{"conv_in.weight": None})
    assert "its unet lacks 1 tensor: conv_in.weight" in refusal(base)


def test_the_classes_of_another_configuration_are_built_anew(base, tmp_path, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    built = []
    monkeypatch.setattr(
        base_check,
        "_built_shapes",
        lambda base: built.append(base) or class_shapes(base.folder) | {"scheduler": None},
    )
    for _ in range(2):
        class_warnings(inspect_base("file:base", base))
    assert len(built) == 1
    edit(base / "unet" / "config.json", layers_per_block=2)
    assert "its unet lacks" in refusal(base)
    assert len(built) == 2


def test_missing_tensors_are_refused_with_the_first_of_them_and_their_number(base):
    names = [name for name in load_file(base / UNET) if name.startswith("mid_block")]
    change(base / UNET, **dict.fromkeys(names))
    message = refusal(base)
    assert f"its unet lacks {len(names)} tensors: mid_block.attentions.0.norm.bias" in message
    assert f"({len(names) - 3} more); copy or download the weights again" in message


def test_a_tensor_of_another_shape_is_refused_with_both_shapes(base):
    change(base / TEXT, **{"final_layer_norm.bias": torch.zeros(3)})
    assert (
        "its text_encoder has wrong shapes in 1 tensor: final_layer_norm.bias is [3], not [16]"
        in refusal(base)
    )


@pytest.mark.parametrize("prefix", ["", "text_model."])
@pytest.mark.parametrize("precision", ["FP16", "FP32"])
def test_left_over_tensors_are_warned_about_and_published_untouched(
    base, make_job, tmp_path, prefix, precision
):
    job = make_job(tmp_path, output={"precision": precision})
    extra = {
        "logit_scale": torch.tensor(4.6052, dtype=torch.bfloat16),
        f"{prefix}embeddings.position_ids": torch.arange(24)[None],
    }
    named = {f"{prefix}{name}": tensor for name, tensor in load_file(base / TEXT).items()}
    save_file(named | extra, base / TEXT)
    change(base / UNET, left_over=torch.tensor([1.0, 70000.0]))
    fix = "its class does not know that; it is not trained, and published as it is"
    assert [str(doubt) for doubt in class_warnings(inspect_base("file:base", base))] == [
        f"spec.baseModel.uri: its unet has 1 tensor: left_over: {fix}",
        f"spec.baseModel.uri: its text_encoder has 1 tensor: logit_scale: {fix}",
    ]
    folder, trained = publish(base, job, tmp_path)
    published = load_file(folder / TEXT)
    assert published.keys() == (named | extra).keys()
    for name, tensor in extra.items():
        assert torch.equal(published[name], tensor)
        assert published[name].dtype == tensor.dtype
    assert torch.equal(load_file(folder / UNET)["left_over"], torch.tensor([1.0, 70000.0]))
    again = load_base(folder, CPU)
    dtype = torch.float16 if precision == "FP16" else torch.float32
    for part, module in again.trainable.items():
        for name, tensor in module.state_dict().items():
            assert torch.equal(tensor, trained[part][name].to(dtype).float()), name


def test_shards_are_read_and_a_missing_one_is_named(base, pipeline, make_job, tmp_path):
    (base / UNET).unlink()
    pipeline.unet.save_pretrained(base / "unet", max_shard_size="40KB")
    found = inspect_base("file:base", base)
    assert class_warnings(found) == []
    assert torch.equal(
        load_base(base, CPU).denoiser.network.conv_in.weight, pipeline.unet.conv_in.weight
    )
    folder, _ = publish(base, make_job(tmp_path), tmp_path)
    StableDiffusionPipeline.from_pretrained(folder, use_safetensors=True)
    last = max((base / "unet").glob("*-of-*.safetensors"))
    last.unlink()
    assert f"unet/{last.name} is missing, a shard that" in refusal(base)
    (base / "unet" / "diffusion_pytorch_model.safetensors.index.json").unlink()
    assert "and no diffusion_pytorch_model.safetensors.index.json" in refusal(base)


@pytest.mark.parametrize("max_shard_size", ["10GB", "20KB"])
def test_a_repository_with_only_a_variant_is_read_and_published_without_it(
    pipeline, make_job, tmp_path, max_shard_size
):
    folder = tmp_path / "half"
    pipeline.to(dtype=torch.float16).save_pretrained(
        folder, variant="fp16", max_shard_size=max_shard_size
    )
    assert not (folder / TEXT).exists()
    assert class_warnings(inspect_base("file:half", folder)) == []
    published, _ = publish(folder, make_job(tmp_path), tmp_path)
    assert not list(published.rglob("*fp16*"))
    again = StableDiffusionPipeline.from_pretrained(published, use_safetensors=True)
    assert torch.equal(again.unet.conv_in.weight, pipeline.unet.conv_in.weight.float() + 0.5)


def test_a_safety_checker_in_half_precision_is_published_so_that_a_plain_pipeline_draws(
    pipeline, make_job, tmp_path
):
    checker = safety_checker(threshold=2.0)  # nothing is that alike
    checker.special_care_embeds_weights.data.fill_(2.0)
    size = {"height": 32, "width": 32}
    pipeline.register_modules(
        safety_checker=checker, feature_extractor=CLIPImageProcessor(size=size, crop_size=size)
    )
    pipeline.to(dtype=torch.float16).save_pretrained(tmp_path / "half", variant="fp16")
    published, _ = publish(tmp_path / "half", make_job(tmp_path), tmp_path)
    again = StableDiffusionPipeline.from_pretrained(published, use_safetensors=True)
    drawn = again("a dog", num_inference_steps=1)
    assert drawn.nsfw_content_detected == [False]


def as_cache(folder, cache):
    """The snapshot of a Hugging Face cache: each file is a link to a blob beside the snapshots."""
    repository = cache / "models--org--tiny"
    snapshot = repository / "snapshots" / ("0" * 40)
    (repository / "blobs").mkdir(parents=True)
    for number, file in enumerate(sorted(path for path in folder.rglob("*") if path.is_file())):
        blob = repository / "blobs" / str(number)
        shutil.copyfile(file, blob)
        link = snapshot / file.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return snapshot


def test_the_snapshot_of_a_hugging_face_cache_is_read(base, make_job, tmp_path):
    snapshot = as_cache(base, tmp_path / "cache")
    assert inspect_base("file:x", snapshot).digest == inspect_base("file:base", base).digest
    published, _ = publish(snapshot, make_job(tmp_path), tmp_path)
    assert not [path for path in published.rglob("*") if path.is_symlink()]


def test_a_link_that_leads_out_of_the_cache_or_nowhere_is_refused(base, tmp_path):
    snapshot = as_cache(base, tmp_path / "cache")
    config = snapshot / "vae" / "config.json"
    config.unlink()
    config.symlink_to(base / "vae" / "config.json")
    assert "vae/config.json is a symbolic link that leads out of" in refusal(snapshot)
    config.unlink()
    config.symlink_to(snapshot.parents[1] / "blobs" / "gone")
    assert "vae/config.json is a link to a file that is gone" in refusal(snapshot)


def test_a_sample_size_that_is_no_number_is_refused(base):
    edit(base / "unet" / "config.json", sample_size="64")
    assert "sample_size is '64', neither a number nor two" in refusal(base)


def test_classes_may_be_named_as_any_version_of_transformers_does(base):
    edit(
        base / "model_index.json",
        tokenizer=["transformers", "CLIPTokenizerFast"],
        feature_extractor=["transformers", "CLIPImageProcessorPil"],
    )
    (base / "feature_extractor").mkdir()
    for name in ("CLIPImageProcessorPil", "CLIPImageProcessorFast", "CLIPFeatureExtractor"):
        edit(base / "model_index.json", feature_extractor=["transformers", name])
        assert "feature_extractor" in inspect_base("file:base", base).components
    edit(base / "model_index.json", feature_extractor=["transformers", "SiglipImageProcessor"])
    assert "its feature_extractor is of class SiglipImageProcessor" in refusal(base)


@pytest.mark.parametrize("limit", [None, 10**30, 1e30, 4096])
def test_a_tokenizer_that_sets_no_limit_has_that_of_the_text_encoder(base, limit):
    config = base / "tokenizer" / "tokenizer_config.json"
    edit(config, model_max_length=limit)
    if limit is None:
        content = json.loads(config.read_text())
        del content["model_max_length"]
        config.write_text(json.dumps(content))
    assert inspect_base("file:base", base).max_tokens == 24
    assert load_base(base, CPU).tokens(["a dog", "a" * 90])["tokens"].shape == (2, 24)


@pytest.mark.parametrize(("size", "side"), [(None, 8), ([8, 8], 8), ([6, 9], 6), (16, 16)])
def test_a_sample_size_may_be_absent_or_a_pair(base, size, side):
    edit(base / "unet" / "config.json", sample_size=size)
    assert inspect_base("file:base", base).sample_size == side


def test_an_inpainting_model_is_refused_in_plain_words(base):
    unet = UNet2DConditionModel.from_pretrained(base / "unet")
    UNet2DConditionModel.from_config(unet.config, in_channels=9).save_pretrained(base / "unet")
    assert (
        "its unet takes 9 channels and gives 4, where its vae has 4: it is an inpainting model"
        in refusal(base)
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_refused_whatever_their_type(base, dtype, value):
    broken = load_file(base / UNET)["conv_in.bias"].to(dtype)
    broken[1] = value
    change(base / UNET, **{"conv_in.bias": broken})
    assert "the weights of its unet are not finite (NaN or infinity in 1 tensor: conv_in.bias)" in (
        refusal(base)
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_largest_weight_is_found_whatever_its_type(base, dtype):
    large = load_file(base / UNET)["conv_in.bias"].to(dtype)
    large[3] = -4096.0
    change(base / UNET, **{"conv_in.bias": large})
    assert inspect_base("file:base", base).largest["unet"] == 4096.0


def test_a_base_that_overflows_float16_is_refused_for_an_export_in_it(base, make_job, tmp_path):
    change(base / UNET, **{"conv_in.bias": torch.full((8,), 70000.0)})
    found = inspect_base("file:base", base)
    check_base(found, make_job(tmp_path, output={"precision": "FP32"}).spec)
    with pytest.raises(TrainerError) as caught:
        check_base(found, make_job(tmp_path, output={"precision": "FP16"}).spec)
    assert str(caught.value) == (
        "spec.output.precision: FP16 holds numbers up to 65504 and the base model's unet has 70000:"
        " it would be published as infinity; set it to FP32"
    )


def test_quantised_weights_are_refused(base):
    change(base / UNET, **{"conv_in.weight": torch.zeros(8, 4, 3, 3, dtype=torch.float8_e4m3fn)})
    assert "the weights of its unet are quantised (F8_E4M3: 1 tensor: conv_in.weight)" in refusal(
        base
    )


@pytest.mark.parametrize(
    ("front_matter", "words"),
    [
        ("license: creativeml-openrail-m", "creativeml-openrail-m"),
        ("license: cc-by-nc-4.0", "cc-by-nc-4.0: forbids commercial use"),
        (
            "license: other\nlicense_name: tiny-non-commercial",
            "other (tiny-non-commercial): forbids commercial use",
        ),
        ("license: other", "other: unknown to the Hub, read it"),
        ("tags: [a, b]", "unknown: no model card names one"),
        ("license: [", "unknown: no model card names one"),
    ],
)
def test_the_licence_is_that_of_the_model_card(base, front_matter, words):
    (base / "README.md").write_text(f"---\n{front_matter}\n---\n# Tiny\n")
    assert str(inspect_base("file:base", base).license) == words


def test_of_a_repository_one_variant_of_each_component_is_downloaded():
    names = [
        "README.md",
        "model_index.json",
        "v1-5-pruned.safetensors",
        "safety_checker/model.fp16.safetensors",
        "safety_checker/pytorch_model.bin",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.fp16.safetensors",
        "text_encoder/model.safetensors",
        "tokenizer/merges.txt",
        "tokenizer/vocab.json",
        "unet/diffusion_pytorch_model-00001-of-00002.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model.non_ema.safetensors",
        "unet/diffusion_pytorch_model.safetensors.index.json",
        "vae/diffusion_pytorch_model.fp16-00001-of-00002.safetensors",
        "vae/diffusion_pytorch_model.safetensors.index.fp16.json",
    ]
    left_out = {
        "v1-5-pruned.safetensors",
        "safety_checker/pytorch_model.bin",
        "text_encoder/model.fp16.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model.non_ema.safetensors",
    }
    assert wanted_files(names) == sorted(set(names) - left_out)


def test_names_of_the_vae_s_attention_from_before_diffusers_0_15_are_known(base):
    file = base / "vae" / "diffusion_pytorch_model.safetensors"
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = load_file(file)
    for new, name in old.items():
        tensors = {key.replace(f".{new}.", f".{name}."): one for key, one in tensors.items()}
    save_file(tensors, file)
    assert any(".proj_attn." in name for name in load_file(file))
    assert class_warnings(inspect_base("file:base", base)) == []


def test_a_clone_without_git_lfs_is_told_as_that(base):
    (base / UNET).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    assert "is a pointer of Git LFS and not the file: run git lfs pull" in refusal(base)


def test_a_folder_that_is_not_there_and_a_single_file_are_told_apart(base, tmp_path):
    assert f"there is no folder {tmp_path / 'absent'}" in refusal(tmp_path / "absent")
    file = base / UNET
    assert f"{file} is a single file; make a folder of it with: darkroom import {file} NAME" in (
        refusal(file)
    )


def test_the_digest_of_a_folder_is_the_same_however_its_files_are_read(base):
    entries = inspect_base("file:base", base)
    np.testing.assert_allclose(
        entries.largest["unet"],
        max(float(tensor.abs().max()) for tensor in load_file(base / UNET).values()),
    )
