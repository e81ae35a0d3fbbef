"""Models from elsewhere become sealed folders: whole, checked, or not there at all."""

import json
import os
import pickle
import shutil

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file
from transformers import ViTForImageClassification, ViTImageProcessor

from darkroom_api.artifact import ArtifactKind
from darkroom_api.builtin import builtin_folder
from darkroom_api.integrity import read_manifest, verify
from darkroom_testing.tiny_models import vit_config
from darkroom_trainer.errors import TrainerError
from darkroom_trainer.importing.bring import plan_import, run_import
from darkroom_trainer.inputs.base_model import inspect_base
from darkroom_trainer.training.models import load_base

pytestmark = pytest.mark.usefixtures("classes_built_here")

CPU = torch.device("cpu")
UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def pipeline(tiny_base):
    return StableDiffusionPipeline.from_pretrained(tiny_base, use_safetensors=True)


@pytest.fixture(scope="module")
def original_state(load_script):
    return load_script("tests/trainer/original_layout.py").original_state


@pytest.fixture
def bring(tmp_path):
    """Imports a source under a name into `bases`."""

    def build(source, name="mine", configs=None, allow_pickle=False):
        written = []
        output = tmp_path / "bases"
        plan = plan_import(source, name, output, configs=configs, allow_pickle=allow_pickle)
        done = run_import(plan, written.append)
        assert sum(written) == plan.source.size_bytes
        return done

    return build


def refusal(bring, *arguments, **options):
    with pytest.raises(TrainerError) as caught:
        bring(*arguments, **options)
    return str(caught.value)


def assert_same_weights(folder, pipeline):
    loaded = load_base(folder, CPU)
    for part, module in {**loaded.trainable, "vae": loaded.codec.vae}.items():
        wanted = getattr(pipeline, part).state_dict()
        found = module.state_dict()
        assert found.keys() == wanted.keys()
        for name, tensor in wanted.items():
            assert torch.equal(found[name], tensor.float()), name


def test_a_folder_is_copied_sealed_and_read_as_a_base(base, bring, pipeline, tmp_path):
    (base / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    (base / "unet" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"not used")
    done = bring(base)
    assert done.folder == tmp_path / "bases" / "mine"
    assert not (done.folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").exists()
    manifest = verify(done.folder)
    assert (manifest.kind, manifest.name) == (ArtifactKind.BASE_MODEL, "mine")
    assert manifest.license == "cc-by-nc-4.0"
    found = inspect_base("file:mine", done.folder)
    assert (found.digest, found.sealed) == (done.digest, True)
    assert str(found.license) == "cc-by-nc-4.0: forbids commercial use"
    assert_same_weights(done.folder, pipeline)


def test_a_cache_s_repository_is_imported_at_the_commit_of_its_main_branch(base, bring, tmp_path):
    repository = tmp_path / "models--org--tiny"
    for commit in ("a" * 40, "b" * 40):
        snapshot = repository / "snapshots" / commit
        for number, file in enumerate(sorted(p for p in base.rglob("*") if p.is_file())):
            blob = repository / "blobs" / f"{commit[0]}{number}"
            blob.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, blob)
            link = snapshot / file.relative_to(base)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(blob, link.parent))
    assert f"has the snapshots {'a' * 40}, {'b' * 40}; name one" in refusal(bring, repository)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("b" * 40)
    done = bring(repository)
    assert not [path for path in done.folder.rglob("*") if path.is_symlink()]
    assert inspect_base("file:mine", done.folder).sealed


@pytest.mark.parametrize("max_shard_size", ["10GB", "40KB"])
def test_a_variant_loses_its_suffix_whole_or_in_shards(pipeline, bring, tmp_path, max_shard_size):
    folder = tmp_path / "half"
    half = pipeline.to(dtype=torch.float16)
    half.save_pretrained(folder, variant="fp16", max_shard_size=max_shard_size)
    done = bring(folder)
    assert not [path.name for path in done.folder.rglob("*") if "fp16" in path.name]
    assert_same_weights(done.folder, half)
    StableDiffusionPipeline.from_pretrained(done.folder, use_safetensors=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_single_file_becomes_a_folder_with_equal_tensors(
    base, bring, pipeline, original_state, tmp_path, dtype
):
    file = tmp_path / "one.safetensors"
    state = {name: tensor.to(dtype) for name, tensor in original_state(pipeline).items()}
    state["model_ema.decay"] = torch.tensor(0.9999)
    save_file(state, file, metadata={"modelspec.license": "CreativeML Open RAIL-M"})
    done = bring(file, configs=base)
    stored = load_file(done.folder / UNET)
    assert {tensor.dtype for tensor in stored.values()} == {dtype}
    assert_same_weights(done.folder, pipeline.to(dtype=dtype))
    assert read_manifest(done.folder).license == "CreativeML Open RAIL-M"
    again = StableDiffusionPipeline.from_pretrained(done.folder, use_safetensors=True)
    assert again("a dog", num_inference_steps=1).images[0].size == (32, 32)


def test_a_single_file_of_version_2_has_its_text_encoder_converted(
    base, bring, pipeline, original_state, load_script, tmp_path
):
    as_version_2 = load_script("tests/trainer/original_layout.py").as_version_2
    file = tmp_path / "two.safetensors"
    save_file(as_version_2(original_state(pipeline)), file)
    assert_same_weights(bring(file, configs=base).folder, pipeline)


def test_missing_tensors_of_a_single_file_are_listed(
    base, bring, pipeline, original_state, tmp_path
):
    file = tmp_path / "one.safetensors"
    state = original_state(pipeline)
    del state["model.diffusion_model.middle_block.0.in_layers.2.weight"]
    del state["model.diffusion_model.out.2.bias"]
    save_file(state, file)
    message = refusal(bring, file, configs=base)
    assert "its unet lacks 2 tensors: conv_out.bias, mid_block.resnets.0.conv1.weight" in message
    assert message.startswith(str(file))
    assert list((tmp_path / "bases").iterdir()) == []


def test_a_single_file_without_a_vae_or_of_another_family_is_told_as_that(
    base, bring, pipeline, original_state, tmp_path
):
    file = tmp_path / "one.safetensors"
    state = original_state(pipeline)
    save_file({n: t for n, t in state.items() if not n.startswith("first_stage")}, file)
    assert "it has no VAE (first_stage_model.*)" in refusal(bring, file, configs=base)
    save_file({"lora_unet_down.lora_up.weight": torch.zeros(1)}, file)
    assert "it is a LoRA" in refusal(bring, file, configs=base)
    for number in range(2):
        state[f"conditioner.embedders.{number}.x"] = torch.zeros(1)
    save_file({n: t for n, t in state.items() if not n.startswith("cond_stage")}, file)
    assert "it has no text encoder (cond_stage_model.*)" in refusal(bring, file, configs=base)


def test_a_single_file_needs_a_folder_with_configurations(
    bring, pipeline, original_state, tmp_path
):
    file = tmp_path / "one.safetensors"
    save_file(original_state(pipeline), file)
    assert "neither configurations nor a tokenizer; name a folder in diffusers' layout" in (
        refusal(bring, file)
    )
    assert "--config-from FOLDER" in refusal(bring, file)


def test_a_pickle_is_read_only_when_that_is_allowed(
    base, bring, pipeline, original_state, tmp_path
):
    file = tmp_path / "old.ckpt"
    torch.save({"state_dict": original_state(pipeline), "global_step": 7}, file)
    assert "it is a pickle, which can run code" in refusal(bring, file, configs=base)
    done = bring(file, configs=base, allow_pickle=True)
    assert_same_weights(done.folder, pipeline)


class Evil:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return (os.system, (self.command,))


def test_code_in_a_pickle_is_never_run(base, bring, tmp_path):
    file, mark = tmp_path / "evil.ckpt", tmp_path / "was-run"
    file.write_bytes(pickle.dumps({"state_dict": Evil(f"touch {mark}")}))
    assert "it holds more than tensors, or is damaged; nothing of it was run" in (
        refusal(bring, file, configs=base, allow_pickle=True)
    )
    assert not mark.exists()


@pytest.fixture
def classifier(tmp_path):
    folder = tmp_path / "vit"
    ViTForImageClassification(vit_config()).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def test_a_classifier_is_sealed_for_the_server(classifier, bring):
    done = bring(classifier)
    assert done.kind is ArtifactKind.CLASSIFIER
    assert verify(done.folder).kind is ArtifactKind.CLASSIFIER
    ViTForImageClassification.from_pretrained(done.folder, use_safetensors=True)


def test_a_classifier_without_its_head_or_its_image_processor_is_refused(classifier, bring):
    weights = load_file(classifier / "model.safetensors")
    save_file(
        {name: one for name, one in weights.items() if not name.startswith("classifier")},
        classifier / "model.safetensors",
    )
    assert "it lacks 2 tensors: classifier.bias, classifier.weight" in refusal(bring, classifier)
    (classifier / "preprocessor_config.json").unlink()
    assert "has no preprocessor_config.json" in refusal(bring, classifier)
    edit = json.loads((classifier / "config.json").read_text()) | {"architectures": ["ViTModel"]}
    (classifier / "config.json").write_text(json.dumps(edit))
    assert "its config.json says ViTModel; use a ViTForImageClassification" in (
        refusal(bring, classifier)
    )


def test_a_name_that_is_taken_is_kept_and_the_same_content_is_no_error(base, bring):
    first = bring(base)
    assert (first.was_there, bring(base).was_there) == (False, True)
    tensors = load_file(base / UNET)
    save_file(tensors | {"conv_out.bias": tensors["conv_out.bias"] + 1}, base / UNET)
    assert "mine is there already, with other content; choose another NAME" in refusal(bring, base)
    assert verify(first.folder).digest == first.digest
    assert sorted(path.name for path in first.folder.parent.iterdir()) == ["mine"]


def test_a_damaged_source_leaves_nothing_behind(base, bring, tmp_path):
    tensors = load_file(base / UNET)
    save_file(tensors | {"conv_out.bias": torch.full((4,), float("nan"))}, base / UNET)
    assert "the weights of its unet are not finite" in refusal(bring, base)
    assert list((tmp_path / "bases").iterdir()) == []


def test_a_sealed_source_keeps_the_licence_of_its_manifest(bring):
    done = bring(builtin_folder("miniature"))
    assert read_manifest(done.folder).license == "apache-2.0"


def test_a_sealed_source_that_was_altered_is_refused(tiny_base, bring, tmp_path):
    altered = shutil.copytree(tiny_base, tmp_path / "altered")
    (altered / "unet" / "config.json").write_text("{}")
    assert "unet/config.json does not match its digest" in refusal(bring, altered)


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "..", "x" * 64])
def test_a_name_that_is_no_name_of_a_folder_is_refused(base, bring, name):
    assert "can't be the name of a folder" in refusal(bring, base, name)


def test_what_is_no_model_is_told_as_that(bring, tmp_path):
    assert "it does not exist; check the path" in refusal(bring, tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    assert "it has neither model_index.json (a base model) nor config.json (a classifier)" in (
        refusal(bring, tmp_path / "empty")
    )
    (tmp_path / "photo.png").touch()
    assert "it is neither a folder nor a .safetensors or .ckpt file" in (
        refusal(bring, tmp_path / "photo.png")
    )
