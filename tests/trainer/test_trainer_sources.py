"""A base model is known to be usable before anything is loaded, or refused with what to do."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from darkroom_api.job import Images
from darkroom_trainer.errors import TrainerError
from darkroom_trainer.inputs.base.prompts import count_tokens
from darkroom_trainer.inputs.base_model import inspect_base
from darkroom_trainer.inputs.sources import find_images


def refusal(folder):
    with pytest.raises(TrainerError) as caught:
        inspect_base("file:base", folder)
    return str(caught.value)


def test_a_complete_model_is_described_without_loading_it(base):
    found = inspect_base("file:base", base)
    assert (found.vae_scale_factor, found.native_resolution, found.max_tokens) == (4, 32, 24)
    assert found.num_parameters["unet"] > 10_000


def test_the_digest_is_of_the_content_and_not_of_the_place(base, tmp_path):
    other = shutil.copytree(base, tmp_path / "other")
    assert inspect_base("file:base", base).digest == inspect_base("file:other", other).digest
    config = base / "unet" / "config.json"
    config.write_text(config.read_text() + "\n")
    assert inspect_base("file:base", base).digest != inspect_base("file:other", other).digest


def test_a_model_without_a_text_encoder_is_refused(base):
    index = json.loads((base / "model_index.json").read_text())
    index["text_encoder"] = [None, None]
    (base / "model_index.json").write_text(json.dumps(index))
    assert "it has no text encoder (model_index.json)" in refusal(base)


def test_a_missing_folder_of_a_component_is_named(base):
    shutil.rmtree(base / "vae")
    assert "it has no folder vae" in refusal(base)


def test_weights_that_are_only_pickles_are_refused_with_the_way_out(base):
    weights = base / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    message = refusal(base)
    assert "the weights of its unet are only a .bin, a pickle that can run code" in message
    assert "safe_serialization=True" in message


def edit(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_a_part_that_is_only_published_may_not_be_a_pickle_either(base):
    edit(
        base / "model_index.json",
        safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"],
    )
    (base / "safety_checker").mkdir()
    (base / "safety_checker" / "pytorch_model.bin").touch()
    assert "the weights of its safety_checker are only a .bin" in refusal(base)


def test_a_scheduler_that_predicts_something_else_is_refused(base):
    edit(base / "scheduler" / "scheduler_config.json", prediction_type="sample")
    assert "its scheduler predicts sample, not epsilon or v_prediction" in refusal(base)


def test_a_configuration_that_lacks_a_field_is_named(base):
    (base / "unet" / "config.json").write_text('{"sample_size": 8}')
    assert "config.json of its unet or vae is wrong: KeyError('block_out_channels')" in refusal(
        base
    )


def test_torn_weights_are_refused(base):
    weights = base / "text_encoder" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    assert "the weights of its text_encoder are damaged: model.safetensors is cut off" in refusal(
        base
    )


def test_another_pipeline_is_refused(base):
    index = json.loads((base / "model_index.json").read_text())
    (base / "model_index.json").write_text(json.dumps(index | {"_class_name": "FluxPipeline"}))
    assert "says FluxPipeline, not StableDiffusionPipeline" in refusal(base)


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    assert "has no model_index.json" in refusal(tmp_path)


def test_what_only_a_cluster_has_is_refused_on_a_laptop(tmp_path):
    with pytest.raises(TrainerError, match="ConfigMap rex-photos is only on a cluster"):
        find_images(Images(configMap="rex-photos"), tmp_path)


def test_prompts_are_counted_in_tokens(base):
    found = inspect_base("file:base", base)
    assert count_tokens(found, ["a dog", "a" * 30]) == {"a dog": 6, "a" * 30: 32}


def hub(tmp_path, code, **environment):
    """Looks for a model on the Hub with an environment of its own; what is printed, on both streams."""
    script = f"""
from pathlib import Path
from darkroom_trainer.inputs.base_model import find_base
{code}
try:
    find_base("hf://org/name@{"0" * 40}", Path("."), Path("downloads"))
except ValueError as error:
    print(error.reason, error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    "environment", [{"HF_ENDPOINT": "http://127.0.0.1:9"}, {"HF_HUB_OFFLINE": "1"}], ids=str
)
def test_a_hub_that_can_not_be_reached_is_asked_once_and_said_in_one_line(tmp_path, environment):
    assert hub(tmp_path, "", **environment) == (
        f"BaseModelUnreachable spec.baseModel.uri: hf://org/name@{'0' * 40} is not on this machine and"
        " the Hub can't be reached; connect to the internet once, or copy the model here and set"
        " file:PATH\n"
    )


def test_a_model_that_was_downloaded_before_needs_no_hub(base, tmp_path):
    shutil.copytree(base, tmp_path / "downloads" / "org--name" / ("0" * 40))
    assert hub(tmp_path, "", HF_ENDPOINT="http://127.0.0.1:9") == ""


def test_a_download_that_fills_the_disk_says_so(tmp_path):
    code = """
import huggingface_hub
from darkroom_trainer.inputs.base import hub
def fill(*arguments, **options):
    raise OSError(28, "No space left on device")
huggingface_hub.snapshot_download = fill
hub._files_on_hub = lambda repository, commit: ["model_index.json"]
"""
    assert hub(tmp_path, code).startswith(
        "DiskFull spec.baseModel.uri: the disk of downloads is full; hf://org/name@"
    )
