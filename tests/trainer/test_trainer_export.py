"""A published model loads with plain diffusers, and a failed export leaves the one before."""

import errno
import os
import re
import time
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file

from darkroom_api import registry
from darkroom_trainer.errors import TrainerError
from darkroom_trainer.inputs.base_model import inspect_base
from darkroom_trainer.output import export
from darkroom_trainer.output.export import export_model
from darkroom_trainer.training.models import load_base

CREATED = "2026-11-23T00:00:00Z"


@pytest.fixture(scope="module")
def trained(tiny_base):
    """Weights that differ from the base's in a known way."""
    base = load_base(tiny_base, torch.device("cpu"))
    return {
        "unet": {name: tensor + 0.5 for name, tensor in base.denoiser.network.state_dict().items()},
        "text_encoder": base.conditioning.encoders["text_encoder"].state_dict(),
    }


@pytest.fixture
def publish(tiny_base, make_job, tmp_path, trained):
    found = inspect_base("file:tiny", tiny_base)

    def build(weights=trained, precision="FP32", steps=4):
        job = make_job(tmp_path, output={"precision": precision})
        return export_model(
            job, found, weights, root=tmp_path / "models", steps=steps, created=CREATED
        )

    return build


@pytest.mark.parametrize(("precision", "dtype"), [("FP32", torch.float32), ("FP16", torch.float16)])
def test_a_plain_pipeline_loads_and_draws_it(publish, trained, precision, dtype):
    entry = publish(precision=precision)
    assert not [path for path in entry.folder.rglob("*") if path.suffix in {".bin", ".pt", ".ckpt"}]
    stored = load_file(entry.folder / "unet" / "diffusion_pytorch_model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {dtype}
    pipeline = StableDiffusionPipeline.from_pretrained(entry.folder, use_safetensors=True)
    for name, tensor in pipeline.unet.state_dict().items():
        assert torch.equal(tensor, trained["unet"][name].to(dtype).float()), name
    image = pipeline("a dog", num_inference_steps=2).images[0]
    assert image.size == (32, 32)


def test_what_a_killed_export_left_is_removed_a_day_later_and_never_that_of_one_at_work(publish):
    versions = publish().folder.parent
    for name, age_s in ((".partial-7", 25 * 3600), (".partial-8", 3600)):
        (versions / name / "unet").mkdir(parents=True)
        os.utime(versions / name, (time.time() - age_s,) * 2)
    publish()
    assert [path.name for path in versions.glob(".partial-*")] == [".partial-8"]


def test_another_user_can_read_every_file(publish):
    files = [path for path in publish().folder.rglob("*") if path.is_file()]
    assert [path.name for path in files if not path.stat().st_mode & 0o004] == []


def test_the_registry_names_it_and_every_file_verifies(publish, tmp_path):
    entry = publish()
    assert registry.find(tmp_path / "models", "tiny") == entry
    manifest = registry.load_verified(entry)
    assert manifest.training.steps == 4
    assert manifest.training.instance_prompt == "a photo of sks dog"
    assert set(manifest.training.versions) >= {"torch", "diffusers", "deepspeed", "ray"}


def test_the_same_weights_give_the_same_digest(publish):
    assert publish().digest == publish().digest


def test_a_new_training_moves_latest_and_keeps_the_old_version(publish, trained, tmp_path):
    first = publish()
    changed = trained | {"unet": {name: t + 1 for name, t in trained["unet"].items()}}
    second = publish(changed)
    assert registry.find(tmp_path / "models", "tiny") == second
    assert registry.load_verified(first).digest == first.digest


def test_the_card_has_the_prompt_and_the_hub_s_metadata(publish):
    card = (publish().folder / "README.md").read_text()
    assert re.match(r"---\n.*instance_prompt: a photo of sks dog\n.*---\n", card, re.DOTALL)
    assert "write `a photo of sks dog` to draw it" in card


def test_a_full_disk_leaves_the_model_before_and_nothing_half_written(
    publish, tmp_path, monkeypatch
):
    before = publish()
    calls = 0

    def full(*_arguments, **_options):
        nonlocal calls
        calls += 1
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(export, "save_file", full)
    with pytest.raises(TrainerError, match=r"spec\.output.uri: the disk of .* is full"):
        publish(steps=5)
    assert calls == 1
    versions = tmp_path / "models" / "default" / "tiny"
    assert sorted(path.name for path in versions.iterdir()) == sorted([before.digest, "latest"])
    assert registry.load_verified(registry.find(tmp_path / "models", "tiny"))


def test_a_registry_that_can_t_be_written_is_named(make_job, tiny_base, trained, tmp_path):
    Path(tmp_path / "models").write_text("a file stands in the way")
    with pytest.raises(TrainerError, match=r"spec\.output.uri: the model can't be written below"):
        export_model(
            make_job(tmp_path),
            inspect_base("file:tiny", tiny_base),
            trained,
            root=tmp_path / "models",
            steps=1,
            created=CREATED,
        )
