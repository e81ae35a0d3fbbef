"""A model that came with a safety checker keeps it: flagged pictures are not sent."""

import asyncio
import shutil

import pytest

from darkroom_api.artifact import ArtifactKind
from darkroom_serving.drawing.studio import Studio
from darkroom_serving.errors import ApiError
from darkroom_serving.models.catalogue import ModelCatalogue
from darkroom_serving.settings import Limits
from darkroom_serving.web.wire import ImagesRequest
from darkroom_testing.tiny_models import safety_checker


def write_checker(folder, threshold):
    """A random-init checker that flags everything above a similarity."""
    from transformers import CLIPImageProcessor

    safety_checker(threshold).save_pretrained(folder / "safety_checker", safe_serialization=True)
    size = {"height": 32, "width": 32}
    CLIPImageProcessor(size=size, crop_size=size).save_pretrained(folder / "feature_extractor")


@pytest.mark.parametrize("threshold", [-2, 2])
def test_what_the_checker_flags_is_refused(tmp_path, serving_base, seal_folder, threshold):
    base = tmp_path / "base"
    shutil.copytree(serving_base, base)
    (base / "manifest.json").unlink()
    write_checker(base, threshold)
    seal_folder(base, ArtifactKind.BASE_MODEL, "guarded")
    studio = Studio(ModelCatalogue(tmp_path / "models", base), Limits(), max_models=1)
    request = ImagesRequest(prompt="a dog", num_inference_steps=1)
    if threshold > 0:
        assert len(asyncio.run(studio.draw(request)).data) == 1
        return
    with pytest.raises(ApiError, match="prompt: the model's safety checker refused") as caught:
        asyncio.run(studio.draw(request))
    assert (caught.value.status, caught.value.code) == (400, "content_policy_violation")
